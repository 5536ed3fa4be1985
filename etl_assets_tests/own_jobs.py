"""A user's own job, with values that are no tables and messages of its own; docs/operations.md shows it."""

import dagster as dg

from etl_assets import definitions as platform
from etl_assets.automation.alerts import sns_on_success


@dg.asset
def prices() -> dict[str, float]:
    return {"Alloy": 2.50, "Cotton": 3.75}


@dg.asset
def dearest(prices: dict[str, float]) -> str:
    return max(prices, key=prices.__getitem__)


price_list = dg.define_asset_job("price_list", [prices, dearest], hooks={sns_on_success()})
defs = dg.Definitions.merge(platform.defs, dg.Definitions(assets=[prices, dearest], jobs=[price_list]))
