"""The tables and views of the warehouse: their DDL, comments and grants."""

from collections.abc import Sequence

from pg8000.native import literal

from etl_assets.adapters.postgres import Connection, column_list, quote_identifier
from etl_assets.adapters.schema_drift import schema_drift
from etl_assets.catalog.stages import WAREHOUSE
from etl_assets.schema.columns import CAPTURED_AT, description_of
from etl_assets.schema.types import sql_type
from etl_assets.transformation.star_table import StarTable

DELETED = "deleted"
VALID_FROM, VALID_TO = "valid_from", "valid_to"
ANALYST = "analyst"
"""The read-only role. It cannot log in: database users are made members of it."""

LOADS, REJECTED, PENDING = (f"{WAREHOUSE}.{name}" for name in ("loads", "rejected", "pending"))

# Name in a warehouse of an older release → name now.
_RENAMED = {"waiting": "pending", "waiting_pkey": "pending_pkey"}

# By table, its columns and its comment.
_BOOKKEEPING = {
    "loads": (
        f"""capture text PRIMARY KEY,
            captured_at timestamp NOT NULL UNIQUE,
            previous text REFERENCES {LOADS},
            full_capture boolean NOT NULL,
            changed jsonb NOT NULL DEFAULT '{{}}',
            repaired jsonb NOT NULL DEFAULT '{{}}',
            loaded_at timestamp NOT NULL DEFAULT (now() AT TIME ZONE 'UTC')""",
        "The captures of totesys that are loaded, each after its predecessor.",
    ),
    "rejected": (
        """star_table text, source_table text, key jsonb, "column" text,
            captured_at timestamp NOT NULL, value text, reason text NOT NULL, "row" text NOT NULL,
            PRIMARY KEY (star_table, source_table, key, "column")""",
        "The latest version of each row that does not fit its declaration. "
        "A row is removed when it has been corrected in totesys and captured again.",
    ),
    "pending": (
        """star_table text, key jsonb, captured_at timestamp,
            "column" text NOT NULL, value text NOT NULL, referenced text NOT NULL, "row" jsonb NOT NULL,
            PRIMARY KEY (star_table, key, captured_at)""",
        "Versions of rows that reference a dimension row that is not in the warehouse. "
        "They are loaded when it arrives.",
    ),
}


def relation(star: StarTable) -> str:
    """Return the qualified, quoted name of a star table."""
    return f"{WAREHOUSE}.{quote_identifier(star.name)}"


def current(star: StarTable) -> str:
    """Return the qualified, quoted name of a fact's view of its latest versions."""
    return f"{WAREHOUSE}.{quote_identifier(f'{star.name}_current')}"


def history(star: StarTable) -> str:
    """Return the qualified, quoted name of a fact's view of all its versions."""
    return f"{WAREHOUSE}.{quote_identifier(f'{star.name}_history')}"


def create_missing(connection: Connection, stars: Sequence[StarTable]) -> list[StarTable]:
    """Create the tables and views that are missing, and return the star tables among them.

    New star tables get their foreign keys from `add_foreign_keys`, after their first rows. Existing ones only get the
    comments and grants that differ: other DDL would wait for the analysts who are reading them. Bookkeeping tables of
    older releases are renamed. `stars` are ordered as by `referenced_first`.

    Raises:
        SchemaMismatchError: an existing table does not match its declaration.
    """
    existing = {
        name
        for [name] in connection.run(
            "SELECT relname::text FROM pg_class WHERE relnamespace = to_regnamespace(:schema)", schema=WAREHOUSE
        )
    }
    if not existing:
        connection.run(f"CREATE SCHEMA IF NOT EXISTS {WAREHOUSE}")
    for name in existing & _RENAMED.keys():
        connection.run(f"ALTER TABLE {WAREHOUSE}.{name} RENAME TO {_RENAMED[name]}")  # tables and indexes alike
    existing = {_RENAMED.get(name, name) for name in existing}
    statements = {name: f"CREATE TABLE {WAREHOUSE}.{name} ({columns})" for name, (columns, _) in _BOOKKEEPING.items()}
    statements |= {star.name: _table(star) for star in stars}
    for star in stars:
        statements |= _views(star)
    for name, statement in statements.items():
        if name not in existing:
            connection.run(statement)
    expected = {star.name: star.captured_columns for star in stars if star.name in existing}
    schema_drift(connection, WAREHOUSE, WAREHOUSE, expected)
    _set_comments(connection, stars)
    _grant_to_analysts(connection, stars)
    return [star for star in stars if star.name not in existing]


def add_foreign_keys(connection: Connection, star: StarTable) -> None:
    """Add the foreign keys of a new star table, unless it has them."""
    if connection.run(
        "SELECT 1 FROM pg_constraint WHERE conrelid = to_regclass(:relation) AND contype = 'f'", relation=relation(star)
    ):
        return
    for column, to in star.foreign_keys.items():
        key = f"FOREIGN KEY ({quote_identifier(column)}) REFERENCES {WAREHOUSE}.{quote_identifier(to)}"
        connection.run(f"ALTER TABLE {relation(star)} ADD {key}")


def _table(star: StarTable) -> str:
    definitions = [
        f"{quote_identifier(column.name)} {sql_type(column.type)}{'' if column.nullable else ' NOT NULL'}"
        for column in star.captured_columns
    ]
    if star.record_id:
        definitions.insert(0, f"{quote_identifier(star.record_id)} serial PRIMARY KEY")
        definitions.append(f"{DELETED} boolean NOT NULL DEFAULT false")
        definitions.append(f"UNIQUE ({column_list(star.primary_key)}, {CAPTURED_AT})")
    else:
        definitions.append(f"PRIMARY KEY ({column_list(star.primary_key)})")
    return f"CREATE TABLE {relation(star)} ({', '.join(definitions)})"


def _views(star: StarTable) -> dict[str, str]:
    """Return the DDL of a fact's views by name: the latest versions, and all versions with their period of validity."""
    if not star.keeps_every_version:
        return {}
    key = column_list(star.primary_key)
    return {
        f"{star.name}_current": f"""CREATE VIEW {current(star)} AS
            SELECT * FROM (
                SELECT DISTINCT ON ({key}) * FROM {relation(star)} ORDER BY {key}, {CAPTURED_AT} DESC
            ) latest
            WHERE NOT {DELETED}""",
        f"{star.name}_history": f"""CREATE VIEW {history(star)} AS
            SELECT * FROM (
                SELECT *, {CAPTURED_AT} AS {VALID_FROM},
                       lead({CAPTURED_AT}, 1, 'infinity') OVER (PARTITION BY {key} ORDER BY {CAPTURED_AT}) AS {VALID_TO}
                FROM {relation(star)}
            ) versions
            WHERE NOT {DELETED}""",
    }


def comments(star: StarTable) -> dict[tuple[str, str | None], str]:
    """Return the comments on a star table, its views and their columns, by relation and column (None: the relation)."""
    table: dict[str | None, str] = {None: star.description}
    table |= {column.name: description_of(column) for column in star.captured_columns}
    if not star.record_id:
        return {(star.name, column): text for column, text in table.items()}
    table[star.record_id] = "Serial number of the version, assigned when it is loaded."
    table[DELETED] = "Whether totesys no longer has the row. True in the last version, written by a full capture."
    validity = {
        None: f"{star.name}: every version, with the period in which it was valid. "
        f"State as of a time t: WHERE {VALID_FROM} <= t AND t < {VALID_TO}.",
        VALID_FROM: "Start of validity, UTC: the time of the capture that first saw the version.",
        VALID_TO: "End of validity, UTC, exclusive: valid_from of the next version, or infinity.",
    }
    texts = {
        star.name: table,
        f"{star.name}_current": table | {None: f"{star.name}: the latest version of each row, without deleted rows."},
        f"{star.name}_history": table | validity,
    }
    return {(name, column): text for name in texts for column, text in texts[name].items()}


def _set_comments(connection: Connection, stars: Sequence[StarTable]) -> None:
    """Set the comments on tables, views and columns where they differ."""
    existing = {
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
    views = {name for star in stars for name in _views(star)}
    expected: dict[tuple[str, str | None], str] = {(name, None): text for name, (_, text) in _BOOKKEEPING.items()}
    for star in stars:
        expected |= comments(star)
    for (name, column), text in expected.items():
        if existing.get((name, column)) != text:
            of = f"{WAREHOUSE}.{quote_identifier(name)}"
            kind = "VIEW" if name in views else "TABLE"
            place = f"COLUMN {of}.{quote_identifier(column)}" if column else f"{kind} {of}"
            connection.run(f"COMMENT ON {place} IS {literal(text)}")


def ungranted(connection: Connection) -> str | None:
    """Return why nothing is granted to the role `analyst`, or None: one that logs in is somebody's, not ours."""
    if connection.run("SELECT FROM pg_roles WHERE rolname = :role AND rolcanlogin", role=ANALYST):
        return (
            f"nothing is granted to the role {ANALYST}, because it can log in, so it may be someone's own: if it is to "
            f"read the warehouse, ALTER ROLE {ANALYST} NOLOGIN, and make its users members of it"
        )
    return None


def _grant_to_analysts(connection: Connection, stars: Sequence[StarTable]) -> None:
    """Grant the role `analyst` SELECT on the star tables, their views and `loads`, and on nothing else.

    A user without the right to create roles grants nothing until someone has created the role.
    """
    [[exists, may_create]] = connection.run(
        """SELECT EXISTS (SELECT FROM pg_roles WHERE rolname = :role), rolcreaterole OR rolsuper
           FROM pg_roles WHERE rolname = current_user""",
        role=ANALYST,
    )
    if ungranted(connection) or not (exists or may_create):
        return
    if not exists:
        # Another warehouse on the same server may create the role at the same moment.
        connection.run(
            f"""DO $$ BEGIN CREATE ROLE {ANALYST} NOLOGIN;
                EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL; END $$"""
        )
    readable = ["loads", *(star.name for star in stars), *(name for star in stars for name in _views(star))]
    not_granted = connection.run(
        """SELECT relname::text FROM pg_class
           WHERE relnamespace = to_regnamespace(:schema) AND relname = ANY(:readable)
           AND NOT has_table_privilege(:role, oid, 'SELECT')""",
        schema=WAREHOUSE,
        readable=readable,
        role=ANALYST,
    )
    if not_granted:
        connection.run(f"GRANT USAGE ON SCHEMA {WAREHOUSE} TO {ANALYST}")
        tables = ", ".join(f"{WAREHOUSE}.{quote_identifier(name)}" for [name] in not_granted)
        connection.run(f"GRANT SELECT ON {tables} TO {ANALYST}")
