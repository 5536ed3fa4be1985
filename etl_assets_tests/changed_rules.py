"""A deployment that changes rules: a column is derived, names are in capitals, a fact refers to a new dimension."""

from dataclasses import replace

import pandas as pd
import pyarrow as pa

from etl_assets.schema.columns import columns
from etl_assets.transformation.star_table import ColumnOf, star_table
from etl_assets_tests.harness import Platform
from etl_assets_tests.pipeline import STAR

_ORDERS, _DESIGNS = STAR["fact_sales_order"], STAR["dim_design"]


def _with_total_amount(sales_order: pd.DataFrame) -> pd.DataFrame:
    rows = _ORDERS.transform(sales_order)
    return rows.assign(total_amount=rows["units_sold"] * rows["unit_price"])


def _in_capitals(design: pd.DataFrame) -> pd.DataFrame:
    return design.assign(design_name=design["design_name"].str.upper())


@star_table(
    primary_key=("place_id",),
    columns=columns(place_id=pa.int32(), country=pa.string()),
    derived_from={"place_id": "address.address_id"},
)
def _dim_place(address: pd.DataFrame) -> pd.DataFrame:
    """Places, but for every third."""
    return address[~address["address_id"].isin(range(1, 1_000, 3))].rename(columns={"address_id": "place_id"})


WITH_TOTAL = replace(
    _ORDERS,
    transform=_with_total_amount,
    columns=pa.schema([*_ORDERS.columns, *columns(total_amount=pa.decimal128(21, 2))]),
    derived_from={
        **_ORDERS.derived_from,
        "total_amount": (ColumnOf("sales_order", "units_sold"), ColumnOf("sales_order", "unit_price")),
    },
)
WITHOUT_TOTAL = replace(_ORDERS, dropped=("total_amount",))
IN_CAPITALS = replace(_DESIGNS, transform=_in_capitals)
PLACES = replace(_dim_place, name="dim_place")
ALTERNATIVES = ((WITH_TOTAL, IN_CAPITALS), (WITHOUT_TOTAL, _DESIGNS))
"""The tables of two deployments, each of which undoes the other's changes."""
_TO_PLACES = {**_ORDERS.foreign_keys, "agreed_delivery_location_id": "dim_place"}


def with_changed_rules(platform: Platform) -> Platform:
    """Return the platform after a deployment in which sales orders refer to places, so that some become pending."""
    return platform.declaring(replace(WITH_TOTAL, foreign_keys=_TO_PLACES), IN_CAPITALS, PLACES)


def rebuild(platform: Platform, partition: str, full: bool) -> bool:
    """Rebuild what changed rules are about."""
    with_changed_rules(platform).rebuild()
    return True
