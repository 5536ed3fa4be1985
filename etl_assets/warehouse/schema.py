"""The tables of the warehouse, and how a load names them."""

from collections.abc import Sequence

from pg8000.native import literal

from etl_assets.databases import Connection, deviations, names, quoted, sql_type
from etl_assets.tables import CAPTURED_AT, description_of
from etl_assets.transformation.declare import StarTable

WAREHOUSE = "warehouse"
DELETED = "deleted"
VALID_FROM, VALID_TO = "valid_from", "valid_to"
ANALYST = "analyst"
"""The role of those who only read. It logs in as nobody: the users of a database are made members of it."""

_BOOKKEEPING = {
    "loads": f"""
CREATE TABLE {WAREHOUSE}.loads (
    capture text PRIMARY KEY,
    captured_at timestamp NOT NULL UNIQUE,
    previous text REFERENCES {WAREHOUSE}.loads,
    full_capture boolean NOT NULL,
    changed jsonb NOT NULL DEFAULT '{{}}',
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

    Give the star tables created. They have no foreign keys yet: a load adds them to the first rows.

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
    created = [star for star in ordered if star.name not in present]
    statements = _BOOKKEEPING | {star.name: _table(star) for star in ordered}
    for star in ordered:
        statements |= _views(star)
    for name, statement in statements.items():
        if name not in present:
            connection.run(statement)
    as_declared = {star.name: star.captured_columns for star in ordered if star.name in present}
    deviations(connection, WAREHOUSE, WAREHOUSE, as_declared)
    _describe(connection, ordered)
    _let_analysts_read(connection, ordered)
    return created


def add_foreign_keys(connection: Connection, star: StarTable) -> None:
    """Let the rows of a table just created refer to those of others, if they do not yet."""
    if connection.run(
        "SELECT 1 FROM pg_constraint WHERE conrelid = to_regclass(:relation) AND contype = 'f'", relation=relation(star)
    ):
        return
    for column, to in star.foreign_keys.items():
        key = f"FOREIGN KEY ({quoted(column)}) REFERENCES {WAREHOUSE}.{quoted(to)}"
        connection.run(f"ALTER TABLE {relation(star)} ADD {key}")


def _table(star: StarTable) -> str:
    definitions = [
        f"{quoted(column.name)} {sql_type(column.type)}{'' if column.nullable else ' NOT NULL'}"
        for column in star.captured_columns
    ]
    if star.record_id:
        definitions.insert(0, f"{quoted(star.record_id)} serial PRIMARY KEY")
        definitions.append(f"{DELETED} boolean NOT NULL DEFAULT false")
        definitions.append(f"UNIQUE ({names(star.primary_key)}, {CAPTURED_AT})")
    else:
        definitions.append(f"PRIMARY KEY ({names(star.primary_key)})")
    return f"CREATE TABLE {relation(star)} ({', '.join(definitions)})"


def _views(star: StarTable) -> dict[str, str]:
    """Compose the views of a fact, by their names: of the present, and of all that was, each with when it was so."""
    if not star.record_id:
        return {}
    key = names(star.primary_key)
    return {
        f"{star.name}_current": f"""CREATE VIEW {current(star)} AS
            SELECT * FROM (
                SELECT DISTINCT ON ({key}) * FROM {relation(star)} ORDER BY {key}, {CAPTURED_AT} DESC
            ) latest
            WHERE NOT {DELETED}""",
        f"{star.name}_history": f"""CREATE VIEW {WAREHOUSE}.{quoted(f"{star.name}_history")} AS
            SELECT * FROM (
                SELECT *, {CAPTURED_AT} AS {VALID_FROM},
                       lead({CAPTURED_AT}, 1, 'infinity') OVER (PARTITION BY {key} ORDER BY {CAPTURED_AT}) AS {VALID_TO}
                FROM {relation(star)}
            ) versions
            WHERE NOT {DELETED}""",
    }


def descriptions(star: StarTable) -> dict[tuple[str, str | None], str]:
    """Say what a star table, its views and their columns hold, by the name of each, and of the column."""
    told: dict[str | None, str] = {None: star.description}
    told |= {column.name: description_of(column) for column in star.captured_columns}
    if not star.record_id:
        return {(star.name, column): text for column, text in told.items()}
    told[star.record_id] = "Numbers the versions, in the order they were loaded in each load."
    told[DELETED] = "Whether totesys has the row no more: its last version says so, from the capture that missed it."
    present = told | {None: f"{star.name}: the present version of each, none of what was deleted."}
    history = told | {
        None: f"{star.name}: each version, and from when to when it was what totesys had. As of a time t: "
        f"WHERE {VALID_FROM} <= t AND t < {VALID_TO}.",
        VALID_FROM: "From when it was so, UTC: when the capture that first saw it was made.",
        VALID_TO: "Until when it was so, UTC, exclusive: the next version's valid_from, or infinity.",
    }
    return {
        (name, column): text
        for name, texts in ((star.name, told), (f"{star.name}_current", present), (f"{star.name}_history", history))
        for column, text in texts.items()
    }


def _describe(connection: Connection, ordered: Sequence[StarTable]) -> None:
    """Let PostgreSQL say what each table, view and column holds, where it says something else."""
    told = {
        (name, column): text
        for name, column, text in connection.run(
            """SELECT c.relname::text, a.attname::text, d.description
               FROM pg_description d
               JOIN pg_class c ON c.oid = d.objoid
               LEFT JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = d.objsubid AND d.objsubid > 0
               WHERE d.classoid = 'pg_class'::regclass AND c.relnamespace = to_regnamespace(:schema)""",
            schema=WAREHOUSE,
        )
    }
    for star in ordered:
        for (name, column), text in descriptions(star).items():
            if told.get((name, column)) != text:
                what = "TABLE" if name == star.name else "VIEW"
                of = f"{WAREHOUSE}.{quoted(name)}"
                place = f"COLUMN {of}.{quoted(column)}" if column else f"{what} {of}"
                connection.run(f"COMMENT ON {place} IS {literal(text)}")


def _let_analysts_read(connection: Connection, ordered: Sequence[StarTable]) -> None:
    """Let the role of analysts read the star tables, their views and the loads, and nothing else.

    Who may not create roles leaves it to those who may: when it is there, the next load lets it read.
    """
    [[there, may_create]] = connection.run(
        """SELECT EXISTS (SELECT FROM pg_roles WHERE rolname = :role), rolcreaterole OR rolsuper
           FROM pg_roles WHERE rolname = current_user""",
        role=ANALYST,
    )
    if not there and not may_create:
        return
    if not there:
        # Another warehouse of the server may be about to create it.
        connection.run(
            f"""DO $$ BEGIN CREATE ROLE {ANALYST} NOLOGIN;
                EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL; END $$"""
        )
    readable = ["loads", *(star.name for star in ordered), *(name for star in ordered for name in _views(star))]
    unread = connection.run(
        """SELECT relname::text FROM pg_class
           WHERE relnamespace = to_regnamespace(:schema) AND relname = ANY(:readable)
           AND NOT has_table_privilege(:role, oid, 'SELECT')""",
        schema=WAREHOUSE,
        readable=readable,
        role=ANALYST,
    )
    if unread:
        connection.run(f"GRANT USAGE ON SCHEMA {WAREHOUSE} TO {ANALYST}")
        tables = ", ".join(f"{WAREHOUSE}.{quoted(name)}" for [name] in unread)
        connection.run(f"GRANT SELECT ON {tables} TO {ANALYST}")
