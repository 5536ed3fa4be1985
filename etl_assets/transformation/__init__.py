"""ingestion → transformation bucket: three star schemas as Parquet. One row is a star row as of one capture."""

from etl_assets.transformation import dimensions, facts
from etl_assets.transformation.star_table import StarTable

STAR_TABLES: tuple[StarTable, ...] = tuple(
    declared for module in (dimensions, facts) for declared in vars(module).values() if isinstance(declared, StarTable)
)
"""The star tables, in the order declared."""
