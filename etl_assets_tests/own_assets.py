"""A user's own module on top of the platform; docs/io-managers.md shows it."""

import dagster as dg
import pandas as pd

from etl_assets import definitions as platform

WINDOWS = platform.defs.resolve_assets_def(dg.AssetKey(["transformation", "fact_sales_order"])).partitions_def
ORDERS, DESIGNS = dg.AssetIn(["warehouse", "fact_sales_order"]), dg.AssetIn(["warehouse", "dim_design"])
IO = "transformation_io_manager"


@dg.asset(ins={"orders": dg.AssetIn(["transformation", "fact_sales_order"])}, partitions_def=WINDOWS, io_manager_key=IO)
def order_values(orders: pd.DataFrame) -> pd.DataFrame:
    return orders.assign(value=orders["units_sold"] * orders["unit_price"])


@dg.asset(ins={"orders": ORDERS, "designs": DESIGNS}, io_manager_key=IO)
def units_by_design(orders: pd.DataFrame, designs: pd.DataFrame) -> pd.DataFrame:
    return orders.merge(designs, on="design_id").groupby("design_name", as_index=False)[["units_sold"]].sum()


defs = dg.Definitions.merge(platform.defs, dg.Definitions(assets=[order_values, units_by_design]))
