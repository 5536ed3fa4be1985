"""The names of the schemas, tables and views of the warehouse, and of the columns that it adds to star tables."""

from pg8000.native import literal

from etl_assets.adapters.postgres import quote_identifier
from etl_assets.catalog.stages import WAREHOUSE
from etl_assets.transformation.star_table import StarTable

AS_OF = "as_of"
"""The schema of the star as it was at one moment."""

AS_OF_SETTING = "etl_assets.as_of"
"""The setting of a session that names this moment."""

MOMENT = f"{AS_OF}.moment"
"""The function that returns this moment."""

ANALYST = "analyst"
"""The read-only role. It cannot log in: database users are made members of it."""

LOADS, REJECTED, PENDING, TABLES, RECONCILIATIONS = (
    f"{WAREHOUSE}.{name}" for name in ("loads", "rejected", "pending", "tables", "reconciliations")
)


def as_of(name: str) -> str:
    """Return the name of a table or view in the schema of the star as it was, as `qualified` takes it."""
    return f"{AS_OF}.{name}"


def qualified(name: str) -> str:
    """Return the qualified, quoted name of a table or view of the warehouse. Its own schema is not part of a name."""
    schema, _, relation_name = name.rpartition(".")
    return f"{schema or WAREHOUSE}.{quote_identifier(relation_name)}"


def relation(star: StarTable) -> str:
    """Return the qualified, quoted name of a star table."""
    return qualified(star.name)


def current(star: StarTable) -> str:
    """Return the qualified, quoted name of a fact's view of its latest versions."""
    return qualified(f"{star.name}_current")


def latest_versions(star: StarTable) -> str:
    """Return the qualified, quoted name of what has the latest versions: a dimension itself, or that view of a fact."""
    return current(star) if star.keeps_every_version else relation(star)


def history(star: StarTable) -> str:
    """Return the qualified, quoted name of a star table's view of all its versions."""
    return qualified(f"{star.name}_history")


def live_name(relation: str) -> str:
    """Return SQL for the name, as `qualified` takes it, of a row of `pg_class` that is `is_ours`."""
    own = f"to_regnamespace({literal(WAREHOUSE)})"
    return f"CASE {relation}.relnamespace WHEN {own} THEN '' ELSE {literal(as_of(''))} END || {relation}.relname"


def is_ours(relation: str) -> str:
    """Return SQL for whether a row of `pg_class` is in one of the schemas of the warehouse."""
    schemas = ", ".join(f"to_regnamespace({literal(schema)})" for schema in (WAREHOUSE, AS_OF))
    return f"{relation}.relnamespace IN ({schemas})"
