"""The tables of the warehouse, and how a load names them."""

from collections.abc import Iterator, Sequence

from pg8000.native import literal

from etl_assets.databases import Connection, deviations, names, quoted, sql_type
from etl_assets.tables import CAPTURED_AT
from etl_assets.transformation.declare import StarTable

WAREHOUSE = "warehouse"
DELETED = "deleted"

_BOOKKEEPING = {
    "loads": f"""
CREATE TABLE {WAREHOUSE}.loads (
    capture text PRIMARY KEY,
    captured_at timestamp NOT NULL UNIQUE,
    previous text REFERENCES {WAREHOUSE}.loads,
    full_capture boolean NOT NULL,
    repaired jsonb NOT NULL DEFAULT '{{}}',
    loaded_at timestamp NOT NULL DEFAULT (now() AT TIME ZONE 'UTC')
);
COMMENT ON TABLE {WAREHOUSE}.loads IS 'The captures of totesys that are here, each after the one before it.'""",
    "rejected": f"""
CREATE TABLE {WAREHOUSE}.rejected (
    star_table text,
    source_table text,
    key jsonb,
    "column" text,
    captured_at timestamp NOT NULL,
    value text,
    reason text NOT NULL,
    "row" text NOT NULL,
    PRIMARY KEY (star_table, source_table, key, "column")
);
COMMENT ON TABLE {WAREHOUSE}.rejected IS
    'Rows of the last captures that cannot be read as declared. They leave when they are mended in totesys.'""",
    "waiting": f"""
CREATE TABLE {WAREHOUSE}.waiting (
    star_table text,
    key jsonb,
    captured_at timestamp,
    "column" text NOT NULL,
    value text NOT NULL,
    referenced text NOT NULL,
    "row" jsonb NOT NULL,
    PRIMARY KEY (star_table, key, captured_at)
);
COMMENT ON TABLE {WAREHOUSE}.waiting IS
    'Versions that refer to a row of a dimension that is not here. They are loaded when it is.'""",
}


def relation(star: StarTable) -> str:
    """Name a star table."""
    return f"{WAREHOUSE}.{quoted(star.name)}"


def current(star: StarTable) -> str:
    """Name the view of the present version of each fact."""
    return f"{WAREHOUSE}.{quoted(f'{star.name}_current')}"


def create_missing(connection: Connection, ordered: Sequence[StarTable]) -> list[StarTable]:
    """Create what is not there, and only that: DDL on what analysts are reading would wait for them.

    Give the star tables created. They have no foreign keys yet: to check those of many rows at once, when they are
    there, takes a tenth of the time of checking each as it comes.

    Raises:
        SchemaMismatchError: a table that is there is not as declared.
    """
    present = {
        name
        for [name] in connection.run(
            "SELECT relname::text FROM pg_class WHERE relnamespace = to_regnamespace(:schema)",
            schema=WAREHOUSE,
        )
    }
    if not present:
        connection.run(f"CREATE SCHEMA IF NOT EXISTS {WAREHOUSE}")
    for name, statements in _BOOKKEEPING.items():
        if name not in present:
            connection.run(statements)
    created = [star for star in ordered if star.name not in present]
    for star in created:
        for statement in _ddl(star):
            connection.run(statement)
    as_declared = {star.name: star.captured_columns for star in ordered if star.name in present}
    deviations(connection, WAREHOUSE, WAREHOUSE, as_declared)
    return created


def add_foreign_keys(connection: Connection, star: StarTable) -> None:
    """Let the rows of a table just created refer to those of others."""
    for column, to in star.foreign_keys.items():
        key = f"FOREIGN KEY ({quoted(column)}) REFERENCES {WAREHOUSE}.{quoted(to)}"
        connection.run(f"ALTER TABLE {relation(star)} ADD {key}")


def _ddl(star: StarTable) -> Iterator[str]:
    """Compose a star table, and the view of its present state if it is a fact."""
    definitions = [
        f"{quoted(column.name)} {sql_type(column.type)}{'' if column.nullable else ' NOT NULL'}"
        for column in star.captured_columns
    ]
    if star.record_id:
        definitions.insert(0, f"{quoted(star.record_id)} serial PRIMARY KEY")
        definitions.insert(len(star.captured_columns) + 1, f"{DELETED} boolean NOT NULL DEFAULT false")
        definitions.append(f"UNIQUE ({names(star.primary_key)}, {CAPTURED_AT})")
    else:
        definitions.append(f"PRIMARY KEY ({names(star.primary_key)})")
    yield f"CREATE TABLE {relation(star)} ({', '.join(definitions)})"
    yield f"COMMENT ON TABLE {relation(star)} IS {literal(star.description)}"
    if star.record_id:
        key = names(star.primary_key)
        yield f"""CREATE VIEW {current(star)} AS
            SELECT * FROM (
                SELECT DISTINCT ON ({key}) * FROM {relation(star)} ORDER BY {key}, {CAPTURED_AT} DESC
            ) latest
            WHERE NOT {DELETED}"""
        yield f"COMMENT ON VIEW {current(star)} IS {literal(f'{star.name}: the present version of each.')}"
