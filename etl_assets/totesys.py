"""The tables of totesys, the operational database, as data. A row is the current state of an entity.

To add a table, add an entry here and nowhere else.
"""

from collections.abc import Mapping

import pyarrow as pa

from etl_assets.schema.columns import MONEY, AnyColumn, about, columns, enum, optional, personal
from etl_assets.schema.table import Table

_MILLISECONDS = pa.timestamp("ms")
_CREATED_AT = {"created_at": about("Time the row was created, UTC.", _MILLISECONDS)}
_LAST_UPDATED = {"last_updated": about("Time of the last update, UTC, though not all updates set it.", _MILLISECONDS)}
_TIMESTAMPS = _CREATED_AT | _LAST_UPDATED


def _table(name: str, description: str, foreign_keys: Mapping[str, str] = {}, /, **types: AnyColumn) -> Table:
    """Declare a table whose primary key is `<name>_id`. `foreign_keys` maps columns to the tables they reference."""
    return Table(
        name=name,
        description=description,
        primary_key=(f"{name}_id",),
        columns=columns(**types),
        foreign_keys=foreign_keys,
    )


TOTESYS_TABLES: tuple[Table, ...] = (
    _table(
        "address",
        "Addresses of counterparties and deliveries.",
        address_id=about("Identifies the address.", pa.int32()),
        address_line_1=about("Street and house number.", pa.string()),
        address_line_2=about("Second line of the address.", optional(pa.string())),
        district=about("District or county.", optional(pa.string())),
        city=about("City.", pa.string()),
        postal_code=about("Postal code.", pa.string()),
        country=about("English name of the country.", pa.string()),
        phone=about("Phone number.", personal(pa.string())),
        **_TIMESTAMPS,
    ),
    _table(
        "counterparty",
        "Companies that the company buys from or sells to.",
        {"legal_address_id": "address"},
        counterparty_id=about("Identifies the counterparty.", pa.int32()),
        counterparty_legal_name=about("Registered name of the counterparty.", pa.string()),
        legal_address_id=about("Registered address.", pa.int32()),
        commercial_contact=about("Contact for orders.", personal(optional(pa.string()))),
        delivery_contact=about("Contact for deliveries.", personal(optional(pa.string()))),
        **_TIMESTAMPS,
    ),
    _table(
        "currency",
        "Currencies of orders and payments.",
        currency_id=about("Identifies the currency.", pa.int32()),
        currency_code=about("Three-letter ISO 4217 code.", pa.string()),
        **_TIMESTAMPS,
    ),
    _table(
        "department",
        "Departments of the company.",
        department_id=about("Identifies the department.", pa.int32()),
        department_name=about("Name of the department.", pa.string()),
        location=about("Location of the department.", optional(pa.string())),
        manager=about("Name of the manager.", personal(optional(pa.string()))),
        **_TIMESTAMPS,
    ),
    _table(
        "design",
        "Designs of tote bags, and their files.",
        design_id=about("Identifies the design.", pa.int32()),
        **_CREATED_AT,
        design_name=about("Name of the design.", pa.string()),
        file_location=about("Folder of the design file.", pa.string()),
        file_name=about("Name of the design file.", pa.string()),
        **_LAST_UPDATED,
    ),
    _table(
        "payment",
        "Payments due or made, one per transaction.",
        {
            "transaction_id": "transaction",
            "counterparty_id": "counterparty",
            "currency_id": "currency",
            "payment_type_id": "payment_type",
        },
        payment_id=about("Identifies the payment.", pa.int32()),
        **_TIMESTAMPS,
        transaction_id=about("Transaction the payment is for.", pa.int32()),
        counterparty_id=about("Counterparty that pays or is paid.", pa.int32()),
        payment_amount=about("Amount, in the currency of the payment.", MONEY),
        currency_id=about("Currency of the amount.", pa.int32()),
        payment_type_id=about("Kind of payment.", pa.int32()),
        paid=about("Whether the payment has been made.", pa.bool_()),
        payment_date=about("Date the payment is due or was made, yyyy-mm-dd.", pa.string()),
        company_ac_number=about("Number of the company's bank account.", pa.int32()),
        counterparty_ac_number=about("Number of the counterparty's bank account.", pa.int32()),
    ),
    _table(
        "payment_type",
        "Kinds of payment: receipts, payments and refunds.",
        payment_type_id=about("Identifies the payment type.", pa.int32()),
        payment_type_name=about(
            "Kind of payment.", enum("SALES_RECEIPT", "SALES_REFUND", "PURCHASE_PAYMENT", "PURCHASE_REFUND")
        ),
        **_TIMESTAMPS,
    ),
    _table(
        "purchase_order",
        "Orders of materials from counterparties.",
        {
            "staff_id": "staff",
            "counterparty_id": "counterparty",
            "currency_id": "currency",
            "agreed_delivery_location_id": "address",
        },
        purchase_order_id=about("Identifies the purchase order.", pa.int32()),
        **_TIMESTAMPS,
        staff_id=about("Member of staff who placed the order.", pa.int32()),
        counterparty_id=about("Counterparty that sells the items.", pa.int32()),
        item_code=about("Code of the item ordered.", pa.string()),
        item_quantity=about("Number of items ordered.", pa.int32()),
        item_unit_price=about("Price of one item, in the currency of the order.", MONEY),
        currency_id=about("Currency of the order.", pa.int32()),
        agreed_delivery_date=about("Agreed date of delivery, yyyy-mm-dd.", pa.string()),
        agreed_payment_date=about("Agreed date of payment, yyyy-mm-dd.", pa.string()),
        agreed_delivery_location_id=about("Agreed address of delivery.", pa.int32()),
    ),
    _table(
        "sales_order",
        "Orders of tote bags by counterparties.",
        {
            "design_id": "design",
            "staff_id": "staff",
            "counterparty_id": "counterparty",
            "currency_id": "currency",
            "agreed_delivery_location_id": "address",
        },
        sales_order_id=about("Identifies the sales order.", pa.int32()),
        **_TIMESTAMPS,
        design_id=about("Design of the bags.", pa.int32()),
        staff_id=about("Member of staff who made the sale.", pa.int32()),
        counterparty_id=about("Counterparty that buys the bags.", pa.int32()),
        units_sold=about("Number of bags sold.", pa.int32()),
        unit_price=about("Price of one bag, in the currency of the order.", MONEY),
        currency_id=about("Currency of the order.", pa.int32()),
        agreed_delivery_date=about("Agreed date of delivery, yyyy-mm-dd.", pa.string()),
        agreed_payment_date=about("Agreed date of payment, yyyy-mm-dd.", pa.string()),
        agreed_delivery_location_id=about("Agreed address of delivery.", pa.int32()),
    ),
    _table(
        "staff",
        "Members of staff and their departments.",
        {"department_id": "department"},
        staff_id=about("Identifies the member of staff.", pa.int32()),
        first_name=about("First name.", personal(pa.string())),
        last_name=about("Last name.", personal(pa.string())),
        department_id=about("Department of the member of staff.", pa.int32()),
        email_address=about("Company e-mail address.", personal(pa.string())),
        **_TIMESTAMPS,
    ),
    _table(
        "transaction",
        "Sales and purchases, one per order.",
        {"sales_order_id": "sales_order", "purchase_order_id": "purchase_order"},
        transaction_id=about("Identifies the transaction.", pa.int32()),
        transaction_type=about("Kind of transaction.", enum("SALE", "PURCHASE")),
        sales_order_id=about("Sales order, if the transaction is a sale.", optional(pa.int32())),
        purchase_order_id=about("Purchase order, if the transaction is a purchase.", optional(pa.int32())),
        **_TIMESTAMPS,
    ),
)
