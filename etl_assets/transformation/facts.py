"""The facts. A row is an order or a payment as of one capture.

A new fact is one more function here and nowhere else.
"""

import pandas as pd
import pyarrow as pa

from etl_assets.schema.columns import MONEY, about, columns
from etl_assets.transformation.star_table import star_table

_TIMESTAMPS = {
    "created_date": about("Date the row was created, UTC.", pa.date32()),
    "created_time": about("Time the row was created, UTC.", pa.time64("us")),
    "last_updated_date": about("Date of the last recorded update, UTC. Some edits do not record one.", pa.date32()),
    "last_updated_time": about("Time of the last recorded update, UTC.", pa.time64("us")),
}
_EVENT_TIME = ("created_date", "created_time")
_DATE_KEYS = {"created_date": "dim_date", "last_updated_date": "dim_date"}
_AGREED_KEYS = {
    "agreed_payment_date": "dim_date",
    "agreed_delivery_date": "dim_date",
    "agreed_delivery_location_id": "dim_location",
}


def _timestamps_of(table: str) -> dict[str, str]:
    created = dict.fromkeys(("created_date", "created_time"), f"{table}.created_at")
    return created | dict.fromkeys(("last_updated_date", "last_updated_time"), f"{table}.last_updated")


@star_table(
    record_id="sales_record_id",
    event_time=_EVENT_TIME,
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
        **_TIMESTAMPS,
        sales_staff_id=pa.int32(),
        counterparty_id=pa.int32(),
        units_sold=pa.int32(),
        unit_price=MONEY,
        currency_id=pa.int32(),
        design_id=pa.int32(),
        agreed_payment_date=about("Agreed date of payment.", pa.date32()),
        agreed_delivery_date=about("Agreed date of delivery.", pa.date32()),
        agreed_delivery_location_id=pa.int32(),
    ),
    derived_from=_timestamps_of("sales_order") | {"sales_staff_id": "sales_order.staff_id"},
)
def fact_sales_order(sales_order: pd.DataFrame) -> pd.DataFrame:
    """Sales orders: every version that a capture saw."""
    return _split_timestamps(sales_order).rename(columns={"staff_id": "sales_staff_id"})


@star_table(
    record_id="purchase_record_id",
    event_time=_EVENT_TIME,
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
        **_TIMESTAMPS,
        staff_id=pa.int32(),
        counterparty_id=pa.int32(),
        item_code=pa.string(),
        item_quantity=pa.int32(),
        item_unit_price=MONEY,
        currency_id=pa.int32(),
        agreed_delivery_date=about("Agreed date of delivery.", pa.date32()),
        agreed_payment_date=about("Agreed date of payment.", pa.date32()),
        agreed_delivery_location_id=pa.int32(),
    ),
    derived_from=_timestamps_of("purchase_order"),
)
def fact_purchase_order(purchase_order: pd.DataFrame) -> pd.DataFrame:
    """Purchase orders: every version that a capture saw."""
    return _split_timestamps(purchase_order)


@star_table(
    record_id="payment_record_id",
    event_time=_EVENT_TIME,
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
        **_TIMESTAMPS,
        transaction_id=pa.int32(),
        counterparty_id=pa.int32(),
        payment_amount=MONEY,
        currency_id=pa.int32(),
        payment_type_id=pa.int32(),
        paid=pa.bool_(),
        payment_date=about("Date the payment is due or was made.", pa.date32()),
    ),
    derived_from=_timestamps_of("payment"),
)
def fact_payment(payment: pd.DataFrame) -> pd.DataFrame:
    """Payments due or made: every version that a capture saw. Bank account numbers are not copied."""
    return _split_timestamps(payment)


def _split_timestamps(rows: pd.DataFrame) -> pd.DataFrame:
    return rows.assign(
        created_date=rows["created_at"].dt.date,
        created_time=rows["created_at"].dt.time,
        last_updated_date=rows["last_updated"].dt.date,
        last_updated_time=rows["last_updated"].dt.time,
    )
