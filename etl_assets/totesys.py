"""totesys, the operational database: its 11 tables, as data. One row is the present state of an entity.

A 12th table is one more entry here and nowhere else.
"""

import pyarrow as pa

from etl_assets.tables import MONEY, Table, about, columns, enum, optional, personal

_MILLISECONDS = pa.timestamp("ms")
_CREATED_AT = {"created_at": about("When the row was made, UTC.", _MILLISECONDS)}
_LAST_UPDATED = {
    "last_updated": about("When the row was last said to be changed, UTC; not every change says it.", _MILLISECONDS)
}
_STAMPS = _CREATED_AT | _LAST_UPDATED

TOTESYS_TABLES: tuple[Table, ...] = (
    Table(
        name="address",
        description="Addresses of counterparties and of agreed deliveries.",
        primary_key=("address_id",),
        columns=columns(
            address_id=about("What orders and counterparties refer to.", pa.int32()),
            address_line_1=about("Street and number.", pa.string()),
            address_line_2=about("More of the address.", optional(pa.string())),
            district=about("District or county.", optional(pa.string())),
            city=about("City.", pa.string()),
            postal_code=about("Postal code, as text.", pa.string()),
            country=about("Country, by its English name.", pa.string()),
            phone=about("Telephone number.", personal(pa.string())),
            **_STAMPS,
        ),
    ),
    Table(
        name="counterparty",
        description="Companies that buy from us or sell to us.",
        primary_key=("counterparty_id",),
        foreign_keys={"legal_address_id": "address"},
        columns=columns(
            counterparty_id=about("What orders and payments refer to.", pa.int32()),
            counterparty_legal_name=about("Name by which the company is registered.", pa.string()),
            legal_address_id=about("Where it is registered.", pa.int32()),
            commercial_contact=about("Whom to talk to about orders.", personal(optional(pa.string()))),
            delivery_contact=about("Whom to talk to about deliveries.", personal(optional(pa.string()))),
            **_STAMPS,
        ),
    ),
    Table(
        name="currency",
        description="Currencies that orders and payments are made in, by ISO 4217 code.",
        primary_key=("currency_id",),
        columns=columns(
            currency_id=about("What orders and payments refer to.", pa.int32()),
            currency_code=about("ISO 4217 code of three letters.", pa.string()),
            **_STAMPS,
        ),
    ),
    Table(
        name="department",
        description="Departments of the company.",
        primary_key=("department_id",),
        columns=columns(
            department_id=about("What members of staff refer to.", pa.int32()),
            department_name=about("Name of the department.", pa.string()),
            location=about("Where the department is.", optional(pa.string())),
            manager=about("Who leads it.", personal(optional(pa.string()))),
            **_STAMPS,
        ),
    ),
    Table(
        name="design",
        description="Designs of tote bags, and the file each is drawn in.",
        primary_key=("design_id",),
        columns=columns(
            design_id=about("What sales orders refer to.", pa.int32()),
            **_CREATED_AT,
            design_name=about("Name of the design.", pa.string()),
            file_location=about("Folder of the file it is drawn in.", pa.string()),
            file_name=about("Name of the file it is drawn in.", pa.string()),
            **_LAST_UPDATED,
        ),
    ),
    Table(
        name="payment",
        description="Payments due or made, one for each transaction.",
        primary_key=("payment_id",),
        foreign_keys={
            "transaction_id": "transaction",
            "counterparty_id": "counterparty",
            "currency_id": "currency",
            "payment_type_id": "payment_type",
        },
        columns=columns(
            payment_id=about("Identifies the payment.", pa.int32()),
            **_STAMPS,
            transaction_id=about("What is paid for.", pa.int32()),
            counterparty_id=about("Who pays or is paid.", pa.int32()),
            payment_amount=about("Amount, in the currency of the payment.", MONEY),
            currency_id=about("Currency of the amount.", pa.int32()),
            payment_type_id=about("Kind of payment.", pa.int32()),
            paid=about("Whether it has been made.", pa.bool_()),
            payment_date=about("Day it is due or was made, yyyy-mm-dd.", pa.string()),
            company_ac_number=about("Number of our bank account.", pa.int32()),
            counterparty_ac_number=about("Number of the bank account of the counterparty.", pa.int32()),
        ),
    ),
    Table(
        name="payment_type",
        description="Kinds of payment: receipts, payments and refunds.",
        primary_key=("payment_type_id",),
        columns=columns(
            payment_type_id=about("What payments refer to.", pa.int32()),
            payment_type_name=about(
                "Kind of payment.", enum("SALES_RECEIPT", "SALES_REFUND", "PURCHASE_PAYMENT", "PURCHASE_REFUND")
            ),
            **_STAMPS,
        ),
    ),
    Table(
        name="purchase_order",
        description="Orders of materials from counterparties.",
        primary_key=("purchase_order_id",),
        foreign_keys={
            "staff_id": "staff",
            "counterparty_id": "counterparty",
            "currency_id": "currency",
            "agreed_delivery_location_id": "address",
        },
        columns=columns(
            purchase_order_id=about("Identifies the order.", pa.int32()),
            **_STAMPS,
            staff_id=about("Who made the order.", pa.int32()),
            counterparty_id=about("Who sells to us.", pa.int32()),
            item_code=about("What is ordered.", pa.string()),
            item_quantity=about("How many, in units of the item.", pa.int32()),
            item_unit_price=about("Price of one, in the currency of the order.", MONEY),
            currency_id=about("Currency of the order.", pa.int32()),
            agreed_delivery_date=about("Day of delivery agreed on, yyyy-mm-dd.", pa.string()),
            agreed_payment_date=about("Day of payment agreed on, yyyy-mm-dd.", pa.string()),
            agreed_delivery_location_id=about("Where it is to be delivered.", pa.int32()),
        ),
    ),
    Table(
        name="sales_order",
        description="Orders of tote bags by counterparties.",
        primary_key=("sales_order_id",),
        foreign_keys={
            "design_id": "design",
            "staff_id": "staff",
            "counterparty_id": "counterparty",
            "currency_id": "currency",
            "agreed_delivery_location_id": "address",
        },
        columns=columns(
            sales_order_id=about("Identifies the order.", pa.int32()),
            **_STAMPS,
            design_id=about("Design of the bags ordered.", pa.int32()),
            staff_id=about("Who sold.", pa.int32()),
            counterparty_id=about("Who buys from us.", pa.int32()),
            units_sold=about("How many bags.", pa.int32()),
            unit_price=about("Price of one bag, in the currency of the order.", MONEY),
            currency_id=about("Currency of the order.", pa.int32()),
            agreed_delivery_date=about("Day of delivery agreed on, yyyy-mm-dd.", pa.string()),
            agreed_payment_date=about("Day of payment agreed on, yyyy-mm-dd.", pa.string()),
            agreed_delivery_location_id=about("Where it is to be delivered.", pa.int32()),
        ),
    ),
    Table(
        name="staff",
        description="Members of staff and the department each belongs to.",
        primary_key=("staff_id",),
        foreign_keys={"department_id": "department"},
        columns=columns(
            staff_id=about("What orders refer to.", pa.int32()),
            first_name=about("First name.", personal(pa.string())),
            last_name=about("Last name.", personal(pa.string())),
            department_id=about("The department they belong to.", pa.int32()),
            email_address=about("E-mail address at the company.", personal(pa.string())),
            **_STAMPS,
        ),
    ),
    Table(
        name="transaction",
        description="Sales and purchases as transactions: each belongs to one order.",
        primary_key=("transaction_id",),
        foreign_keys={"sales_order_id": "sales_order", "purchase_order_id": "purchase_order"},
        columns=columns(
            transaction_id=about("What payments refer to.", pa.int32()),
            transaction_type=about("Whether it is a sale or a purchase.", enum("SALE", "PURCHASE")),
            sales_order_id=about("The sales order, if it is a sale.", optional(pa.int32())),
            purchase_order_id=about("The purchase order, if it is a purchase.", optional(pa.int32())),
            **_STAMPS,
        ),
    ),
)
