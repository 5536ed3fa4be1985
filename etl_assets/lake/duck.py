"""Star tables in DuckDB, an optional dependency: `etl-assets[duckdb]`."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

import pyarrow as pa

from etl_assets.adapters.postgres import quote_identifier
from etl_assets.schema.columns import DELETED, VALID_FROM, VALID_TO
from etl_assets.schema.errors import PermanentError
from etl_assets.transformation.star_table import StarTable

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

_INFINITE = {VALID_FROM: "-infinity", VALID_TO: "infinity"}
_BATCH = "etl_assets_batch"


class DuckDBMissingError(PermanentError):
    """DuckDB is not installed."""

    def __init__(self) -> None:
        super().__init__("DuckDB is not installed: pip install 'etl-assets[duckdb]'")


def connect() -> "DuckDBPyConnection":
    """Return a connection to a new database in memory.

    Raises:
        DuckDBMissingError: DuckDB is not installed.
    """
    try:
        import duckdb
    except ModuleNotFoundError:
        raise DuckDBMissingError from None
    return duckdb.connect()


def selected(schema: pa.Schema) -> str:
    """Return the columns of versions for a SELECT. Open ends of their validity are infinite, which Arrow lacks."""
    return ", ".join(
        f"coalesce({name}, TIMESTAMP '{_INFINITE[name]}') AS {name}" if name in _INFINITE else quote_identifier(name)
        for name in schema.names
    )


def create_table(connection: "DuckDBPyConnection", name: str, schema: pa.Schema, batches: Iterable[pa.Table]) -> None:
    """Create a table of versions, in place of one of this name."""
    connection.register(_BATCH, schema.empty_table())
    connection.execute(f"CREATE OR REPLACE TABLE {quote_identifier(name)} AS SELECT {selected(schema)} FROM {_BATCH}")
    for batch in batches:
        connection.register(_BATCH, batch)
        connection.execute(f"INSERT INTO {quote_identifier(name)} SELECT {selected(schema)} FROM {_BATCH}")
    connection.unregister(_BATCH)


def create_views(connection: "DuckDBPyConnection", star: StarTable) -> None:
    """Create the views of a table of versions by the names that they have in the warehouse."""
    versions = quote_identifier(star.versions.name)
    latest = f"SELECT * EXCLUDE ({VALID_FROM}, {VALID_TO}) FROM {versions} WHERE {VALID_TO} = 'infinity'"
    views = {f"{star.name}_history": f"SELECT * FROM {versions} WHERE NOT {DELETED}"}
    if star.keeps_every_version:
        views[f"{star.name}_current"] = f"{latest} AND NOT {DELETED}"
    else:
        views[star.name] = latest
    for name, query in views.items():
        connection.execute(f"CREATE OR REPLACE VIEW {quote_identifier(name)} AS {query}")
