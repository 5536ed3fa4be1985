"""totesys, the operational database: its 11 tables, as data. One row is the present state of an entity.

A 12th table is one more entry here and nowhere else.
"""

import pyarrow as pa

from etl_assets.tables import MONEY, Table, columns, enum, optional

_MILLISECONDS = pa.timestamp("ms")
_CREATED_AT = {"created_at": _MILLISECONDS}
_LAST_UPDATED = {"last_updated": _MILLISECONDS}
_STAMPS = _CREATED_AT | _LAST_UPDATED

TOTESYS_TABLES: tuple[Table, ...] = (
    Table(
        name="address",
        description="Addresses of counterparties and of agreed deliveries.",
        primary_key=("address_id",),
        columns=columns(
            address_id=pa.int32(),
            address_line_1=pa.string(),
            address_line_2=optional(pa.string()),
            district=optional(pa.string()),
            city=pa.string(),
            postal_code=pa.string(),
            country=pa.string(),
            phone=pa.string(),
            **_STAMPS,
        ),
    ),
    Table(
        name="counterparty",
        description="Companies that buy from us or sell to us.",
        primary_key=("counterparty_id",),
        foreign_keys={"legal_address_id": "address"},
        columns=columns(
            counterparty_id=pa.int32(),
            counterparty_legal_name=pa.string(),
            legal_address_id=pa.int32(),
            commercial_contact=optional(pa.string()),
            delivery_contact=optional(pa.string()),
            **_STAMPS,
        ),
    ),
    Table(
        name="currency",
        description="Currencies that orders and payments are made in, by ISO 4217 code.",
        primary_key=("currency_id",),
        columns=columns(currency_id=pa.int32(), currency_code=pa.string(), **_STAMPS),
    ),
    Table(
        name="department",
        description="Departments of the company.",
        primary_key=("department_id",),
        columns=columns(
            department_id=pa.int32(),
            department_name=pa.string(),
            location=optional(pa.string()),
            manager=optional(pa.string()),
            **_STAMPS,
        ),
    ),
    Table(
        name="design",
        description="Designs of tote bags, and the file each is drawn in.",
        primary_key=("design_id",),
        columns=columns(
            design_id=pa.int32(),
            **_CREATED_AT,
            design_name=pa.string(),
            file_location=pa.string(),
            file_name=pa.string(),
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
            payment_id=pa.int32(),
            **_STAMPS,
            transaction_id=pa.int32(),
            counterparty_id=pa.int32(),
            payment_amount=MONEY,
            currency_id=pa.int32(),
            payment_type_id=pa.int32(),
            paid=pa.bool_(),
            payment_date=pa.string(),  # text in the source, meant as yyyy-mm-dd
            company_ac_number=pa.int32(),
            counterparty_ac_number=pa.int32(),
        ),
    ),
    Table(
        name="payment_type",
        description="Kinds of payment: receipts, payments and refunds.",
        primary_key=("payment_type_id",),
        columns=columns(
            payment_type_id=pa.int32(),
            payment_type_name=enum("SALES_RECEIPT", "SALES_REFUND", "PURCHASE_PAYMENT", "PURCHASE_REFUND"),
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
            purchase_order_id=pa.int32(),
            **_STAMPS,
            staff_id=pa.int32(),
            counterparty_id=pa.int32(),
            item_code=pa.string(),
            item_quantity=pa.int32(),
            item_unit_price=MONEY,
            currency_id=pa.int32(),
            agreed_delivery_date=pa.string(),  # text in the source, meant as yyyy-mm-dd
            agreed_payment_date=pa.string(),
            agreed_delivery_location_id=pa.int32(),
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
            sales_order_id=pa.int32(),
            **_STAMPS,
            design_id=pa.int32(),
            staff_id=pa.int32(),
            counterparty_id=pa.int32(),
            units_sold=pa.int32(),
            unit_price=MONEY,
            currency_id=pa.int32(),
            agreed_delivery_date=pa.string(),  # text in the source, meant as yyyy-mm-dd
            agreed_payment_date=pa.string(),
            agreed_delivery_location_id=pa.int32(),
        ),
    ),
    Table(
        name="staff",
        description="Members of staff and the department each belongs to.",
        primary_key=("staff_id",),
        foreign_keys={"department_id": "department"},
        columns=columns(
            staff_id=pa.int32(),
            first_name=pa.string(),
            last_name=pa.string(),
            department_id=pa.int32(),
            email_address=pa.string(),
            **_STAMPS,
        ),
    ),
    Table(
        name="transaction",
        description="Sales and purchases as transactions: each belongs to one order.",
        primary_key=("transaction_id",),
        foreign_keys={"sales_order_id": "sales_order", "purchase_order_id": "purchase_order"},
        columns=columns(
            transaction_id=pa.int32(),
            transaction_type=enum("SALE", "PURCHASE"),
            sales_order_id=optional(pa.int32()),
            purchase_order_id=optional(pa.int32()),
            **_STAMPS,
        ),
    ),
)
