"""The dimensions. A row is an entity as of one capture.

A new dimension is one more function here and nowhere else.
"""

from calendar import isleap
from datetime import date, timedelta

import pandas as pd
import pyarrow as pa
import pycountry

from etl_assets.schema.columns import CAPTURED_AT, about, columns, optional
from etl_assets.transformation.star_table import star_table

_DATE = pd.ArrowDtype(pa.date32())
_STRING = pd.ArrowDtype(pa.string())
_ADDRESS_COLUMNS = ("address_line_1", "address_line_2", "district", "city", "postal_code", "country")


@star_table(
    primary_key=("date_id",),
    columns=columns(
        date_id=about("The day.", pa.date32()),
        year=about("Year.", pa.int32()),
        month=about("Month, 1 to 12.", pa.int32()),
        day=about("Day of the month, 1 to 31.", pa.int32()),
        day_of_week=about("Day of the week, 1 (Monday) to 7 (Sunday).", pa.int32()),
        day_name=about("Monday to Sunday.", pa.string()),
        month_name=about("January to December.", pa.string()),
        quarter=about("Quarter of the year, 1 to 4.", pa.int32()),
    ),
)
def dim_date(**facts: pd.DataFrame) -> pd.DataFrame:
    """Every day of each calendar year that a date of a fact falls in. Days of the week follow ISO 8601: Monday is 1."""
    years = pd.concat(
        pd.DataFrame({CAPTURED_AT: rows[CAPTURED_AT], "year": rows[column].dt.year})
        for rows in facts.values()
        for column in rows.columns[rows.dtypes == _DATE]
    ).drop_duplicates()
    days = [
        date(year, 1, 1) + timedelta(days=day)
        for year in years["year"].unique()
        for day in range(366 if isleap(year) else 365)
    ]
    calendar = pd.DataFrame({"date_id": days}, dtype=_DATE)
    day = calendar["date_id"].dt
    calendar = calendar.assign(
        year=day.year,
        month=day.month,
        day=day.day,
        day_of_week=day.day_of_week + 1,
        day_name=day.day_name(),
        month_name=day.month_name(),
        quarter=day.quarter,
    )
    return years.merge(calendar, on="year")


@star_table(
    primary_key=("staff_id",),
    columns=columns(
        staff_id=pa.int32(),
        first_name=pa.string(),
        last_name=pa.string(),
        department_name=pa.string(),
        location=optional(pa.string()),
        email_address=pa.string(),
    ),
)
def dim_staff(staff: pd.DataFrame, department: pd.DataFrame) -> pd.DataFrame:
    """Members of staff, each with their department."""
    return staff.merge(department, how="left", on=["department_id", CAPTURED_AT], validate="m:1")


@star_table(
    primary_key=("location_id",),
    columns=columns(
        location_id=pa.int32(),
        address_line_1=pa.string(),
        address_line_2=optional(pa.string()),
        district=optional(pa.string()),
        city=pa.string(),
        postal_code=pa.string(),
        country=pa.string(),
        phone=pa.string(),
    ),
    derived_from={"location_id": "address.address_id"},
)
def dim_location(address: pd.DataFrame) -> pd.DataFrame:
    """Addresses that orders are delivered to."""
    return address.rename(columns={"address_id": "location_id"})


@star_table(
    primary_key=("currency_id",),
    columns=columns(
        currency_id=pa.int32(),
        currency_code=pa.string(),
        currency_name=about("ISO 4217 name of the currency.", pa.string()),
    ),
    derived_from={"currency_name": "currency.currency_code"},
    computed=("currency_name",),
)
def dim_currency(currency: pd.DataFrame) -> pd.DataFrame:
    """Currencies of orders and payments, with their ISO 4217 names."""
    return currency.assign(currency_name=currency["currency_code"].map(_currency_name).astype(_STRING))


def _currency_name(code: str) -> str | None:
    known = pycountry.currencies.get(alpha_3=code)
    return known.name if known else None


@star_table(
    primary_key=("design_id",),
    columns=columns(design_id=pa.int32(), design_name=pa.string(), file_location=pa.string(), file_name=pa.string()),
)
def dim_design(design: pd.DataFrame) -> pd.DataFrame:
    """Designs of tote bags."""
    return design


@star_table(
    primary_key=("counterparty_id",),
    columns=columns(
        counterparty_id=pa.int32(),
        counterparty_legal_name=pa.string(),
        counterparty_legal_address_line_1=pa.string(),
        counterparty_legal_address_line_2=optional(pa.string()),
        counterparty_legal_district=optional(pa.string()),
        counterparty_legal_city=pa.string(),
        counterparty_legal_postal_code=pa.string(),
        counterparty_legal_country=pa.string(),
        counterparty_legal_phone_number=pa.string(),
    ),
    derived_from={
        "counterparty_legal_phone_number": "address.phone",
        **{f"counterparty_legal_{column}": f"address.{column}" for column in _ADDRESS_COLUMNS},
    },
)
def dim_counterparty(counterparty: pd.DataFrame, address: pd.DataFrame) -> pd.DataFrame:
    """Companies that buy from us or sell to us, each with its legal address."""
    legal_address = address.rename(
        columns={"address_id": "legal_address_id", "phone": "counterparty_legal_phone_number"}
        | {column: f"counterparty_legal_{column}" for column in _ADDRESS_COLUMNS}
    )
    return counterparty.merge(legal_address, how="left", on=["legal_address_id", CAPTURED_AT], validate="m:1")


@star_table(
    primary_key=("payment_type_id",), columns=columns(payment_type_id=pa.int32(), payment_type_name=pa.string())
)
def dim_payment_type(payment_type: pd.DataFrame) -> pd.DataFrame:
    """Kinds of payment."""
    return payment_type


@star_table(
    primary_key=("transaction_id",),
    columns=columns(
        transaction_id=pa.int32(),
        transaction_type=pa.string(),
        sales_order_id=optional(pa.int32()),
        purchase_order_id=optional(pa.int32()),
    ),
)
def dim_transaction(transaction: pd.DataFrame) -> pd.DataFrame:
    """Transactions, each with its sales or purchase order."""
    return transaction
