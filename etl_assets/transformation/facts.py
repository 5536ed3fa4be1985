"""The facts. A row is an order or a payment as it stood at one capture.

A new fact is one more function here and nowhere else.
"""

import pandas as pd
import pyarrow as pa

from etl_assets.tables import MONEY, about, columns
from etl_assets.transformation.declare import star_table

_STAMPS = {
    "created_date": about("Day the row was made, UTC.", pa.date32()),
    "created_time": about("Time of that day.", pa.time64("us")),
    "last_updated_date": about("Day the row was last said to be changed, UTC.", pa.date32()),
    "last_updated_time": about("Time of that day.", pa.time64("us")),
}
_DATE_KEYS = {"created_date": "dim_date", "last_updated_date": "dim_date"}
_AGREED_KEYS = {
    "agreed_payment_date": "dim_date",
    "agreed_delivery_date": "dim_date",
    "agreed_delivery_location_id": "dim_location",
}


def _stamps_of(table: str) -> dict[str, str]:
    created, updated = f"{table}.created_at", f"{table}.last_updated"
    return {
        "created_date": created,
        "created_time": created,
        "last_updated_date": updated,
        "last_updated_time": updated,
    }


@star_table(
    record_id="sales_record_id",
    primary_key=("sales_order_id",),
    foreign_keys={
        **_DATE_KEYS,
        "sales_staff_id": "dim_staff",
        "counterparty_id": "dim_counterparty",
        "currency_id": "dim_currency",
        "design_id": "dim_design",
        **_AGREED_KEYS,
    },
    columns=columns(
        sales_order_id=pa.int32(),
        **_STAMPS,
        sales_staff_id=pa.int32(),
        counterparty_id=pa.int32(),
        units_sold=pa.int32(),
        unit_price=MONEY,
        currency_id=pa.int32(),
        design_id=pa.int32(),
        agreed_payment_date=about("Day of payment agreed on.", pa.date32()),
        agreed_delivery_date=about("Day of delivery agreed on.", pa.date32()),
        agreed_delivery_location_id=pa.int32(),
    ),
    derived_from=_stamps_of("sales_order") | {"sales_staff_id": "sales_order.staff_id"},
)
def fact_sales_order(sales_order: pd.DataFrame) -> pd.DataFrame:
    """Sales orders: every version of each that a capture saw."""
    return _split_stamps(sales_order).rename(columns={"staff_id": "sales_staff_id"})


@star_table(
    record_id="purchase_record_id",
    primary_key=("purchase_order_id",),
    foreign_keys={
        **_DATE_KEYS,
        "staff_id": "dim_staff",
        "counterparty_id": "dim_counterparty",
        "currency_id": "dim_currency",
        **_AGREED_KEYS,
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
        agreed_delivery_date=about("Day of delivery agreed on.", pa.date32()),
        agreed_payment_date=about("Day of payment agreed on.", pa.date32()),
        agreed_delivery_location_id=pa.int32(),
    ),
    derived_from=_stamps_of("purchase_order"),
)
def fact_purchase_order(purchase_order: pd.DataFrame) -> pd.DataFrame:
    """Purchase orders: every version of each that a capture saw."""
    return _split_stamps(purchase_order)


@star_table(
    record_id="payment_record_id",
    primary_key=("payment_id",),
    foreign_keys={
        **_DATE_KEYS,
        "transaction_id": "dim_transaction",
        "counterparty_id": "dim_counterparty",
        "currency_id": "dim_currency",
        "payment_type_id": "dim_payment_type",
        "payment_date": "dim_date",
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
        payment_date=about("Day the payment is due or was made.", pa.date32()),
    ),
    derived_from=_stamps_of("payment"),
)
def fact_payment(payment: pd.DataFrame) -> pd.DataFrame:
    """Payments due or made: every version of each that a capture saw. Account numbers stay in totesys."""
    return _split_stamps(payment)


def _split_stamps(rows: pd.DataFrame) -> pd.DataFrame:
    return rows.assign(
        created_date=rows["created_at"].dt.date,
        created_time=rows["created_at"].dt.time,
        last_updated_date=rows["last_updated"].dt.date,
        last_updated_time=rows["last_updated"].dt.time,
    )
