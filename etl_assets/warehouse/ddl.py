"""The tables and views of the warehouse: their DDL, comments and grants."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence, Set

import pyarrow as pa
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

LOADS, REJECTED, PENDING, TABLES = (f"{WAREHOUSE}.{name}" for name in ("loads", "rejected", "pending", "tables"))

# Name in a warehouse of an older release → name now.
_RENAMED = {"waiting": "pending", "waiting_pkey": "pending_pkey"}

# By table, its columns, its key and its comment.
_BOOKKEEPING = {
    "loads": (
        {
            "capture": "text",
            "captured_at": "timestamp NOT NULL UNIQUE",
            "previous": f"text REFERENCES {LOADS}",
            "full_capture": "boolean NOT NULL",
            "changed": "jsonb NOT NULL DEFAULT '{}'",
            "repaired": "jsonb NOT NULL DEFAULT '{}'",
            "loaded_at": "timestamp NOT NULL DEFAULT (now() AT TIME ZONE 'UTC')",
        },
        ("capture",),
        "The captures of totesys that are loaded, each after its predecessor.",
    ),
    "rejected": (
        {
            "star_table": "text",
            "source_table": "text",
            "key": "jsonb",
            "column": "text",
            "captured_at": "timestamp NOT NULL",
            "value": "text",
            "reason": "text NOT NULL",
            "row": "text NOT NULL",
        },
        ("star_table", "source_table", "key", "column"),
        "The latest version of each row that does not fit its declaration. "
        "A row is removed when it has been corrected in totesys and captured again.",
    ),
    "pending": (
        {
            "star_table": "text",
            "key": "jsonb",
            "captured_at": "timestamp",
            "column": "text NOT NULL",
            "value": "text NOT NULL",
            "referenced": "text NOT NULL",
            "row": "jsonb NOT NULL",
        },
        ("star_table", "key", "captured_at"),
        "Versions of rows that reference a dimension row that is not in the warehouse. "
        "They are loaded when it arrives.",
    ),
    "tables": (
        {"star_table": "text", "rule": "text", "built_at": "timestamp", "views": "text"},
        ("star_table",),
        "By which version of its rule each star table was built, and when (UTC).",
    ),
}


def qualified(name: str) -> str:
    """Return the qualified, quoted name of a table or view of the warehouse."""
    return f"{WAREHOUSE}.{quote_identifier(name)}"


def relation(star: StarTable) -> str:
    """Return the qualified, quoted name of a star table."""
    return qualified(star.name)


def current(star: StarTable) -> str:
    """Return the qualified, quoted name of a fact's view of its latest versions."""
    return qualified(f"{star.name}_current")


def history(star: StarTable) -> str:
    """Return the qualified, quoted name of a fact's view of all its versions."""
    return qualified(f"{star.name}_history")


def create_bookkeeping(connection: Connection) -> None:
    """Create the schema and the bookkeeping tables, or what is missing in those of an older release."""
    live: dict[str, set[str]] = {}
    for name, column in connection.run(
        """SELECT c.relname::text, a.attname::text FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid
           WHERE c.relnamespace = to_regnamespace(:schema) AND c.relname = ANY(:names) AND a.attnum > 0""",
        schema=WAREHOUSE,
        names=[*_BOOKKEEPING, *_RENAMED],
    ):
        live.setdefault(name, set()).add(column)
    if not live:
        connection.run(f"CREATE SCHEMA IF NOT EXISTS {WAREHOUSE}")
    for name in live.keys() & _RENAMED.keys():  # tables and indexes alike
        connection.run(f"ALTER TABLE {qualified(name)} RENAME TO {quote_identifier(_RENAMED[name])}")
    live = {_RENAMED.get(name, name): columns for name, columns in live.items()}
    for name, (columns, key, _) in _BOOKKEEPING.items():
        definitions = {column: f"{quote_identifier(column)} {definition}" for column, definition in columns.items()}
        if name not in live:
            parts = ", ".join([*definitions.values(), f"PRIMARY KEY ({column_list(key)})"])
            connection.run(f"CREATE TABLE {qualified(name)} ({parts})")
        for column in definitions.keys() - live.get(name, definitions.keys()):
            connection.run(f"ALTER TABLE {qualified(name)} ADD COLUMN {definitions[column]}")


def create_missing(
    connection: Connection, stars: Sequence[StarTable], unchecked: Set[str] = frozenset()
) -> list[StarTable]:
    """Create the tables and views that are missing, and return the star tables among them.

    New star tables get their foreign keys from `add_foreign_keys`, after their first rows. Existing ones only get the
    comments and grants that differ: other DDL would wait for the analysts who are reading them. Bookkeeping tables of
    older releases are renamed. `stars` are ordered as by `referenced_first`. Those that are `unchecked`, by name, wait
    for a rebuild: they are left as they are.

    A column may be nullable though declared NOT NULL: a rebuild makes it NOT NULL at its end.

    Raises:
        SchemaMismatchError: an existing table does not match its declaration.
    """
    existing = {
        name
        for [name] in connection.run(
            "SELECT relname::text FROM pg_class WHERE relnamespace = to_regnamespace(:schema)", schema=WAREHOUSE
        )
    }
    create_bookkeeping(connection)
    checked = [star for star in stars if star.name not in unchecked]
    expected = {star.name: _nullable(star.captured_columns) for star in checked if star.name in existing}
    schema_drift(connection, WAREHOUSE, WAREHOUSE, expected)
    statements = {star.name: table_statement(star) for star in checked}
    for star in checked:
        statements |= view_statements(view_queries(star, view_columns(star)))
    for name, statement in statements.items():
        if name not in existing:
            connection.run(statement)
    _note_views(connection, checked)
    _set_comments(connection, checked)
    _grant_to_analysts(connection, stars)
    return [star for star in checked if star.name not in existing]


def _nullable(columns: pa.Schema) -> pa.Schema:
    return pa.schema(column.with_nullable(True) for column in columns)


def add_foreign_keys(connection: Connection, star: StarTable) -> None:
    """Add the foreign keys of a new star table, unless it has them."""
    if connection.run(
        "SELECT 1 FROM pg_constraint WHERE conrelid = to_regclass(:relation) AND contype = 'f'", relation=relation(star)
    ):
        return
    for column in star.foreign_keys:
        connection.run(foreign_key_statement(star, column))


def foreign_key_statement(star: StarTable, column: str) -> str:
    """Return the statement that adds a declared foreign key to a star table."""
    key = f"FOREIGN KEY ({quote_identifier(column)}) REFERENCES {qualified(star.foreign_keys[column])}"
    return f"ALTER TABLE {relation(star)} ADD {key}"


def table_statement(star: StarTable) -> str:
    """Return the statement that creates a star table, without its foreign keys."""
    definitions = [
        f"{quote_identifier(column.name)} {sql_type(column.type)}{'' if column.nullable else ' NOT NULL'}"
        for column in star.captured_columns
    ]
    if star.record_id:
        definitions.insert(0, f"{quote_identifier(star.record_id)} serial PRIMARY KEY")
        definitions.append(f"{DELETED} boolean NOT NULL DEFAULT false")
    return f"CREATE TABLE {relation(star)} ({', '.join((*definitions, key_constraint(star)))})"


def key_constraint(star: StarTable) -> str:
    """Return the constraint that keeps the rows of a star table apart."""
    if star.keeps_every_version:
        return f"UNIQUE ({column_list((*star.primary_key, CAPTURED_AT))})"
    return f"PRIMARY KEY ({column_list(star.primary_key)})"


def view_columns(star: StarTable) -> dict[str, tuple[str, ...]]:
    """Return the declared columns of a fact's views by name: the latest versions, and all with their validity."""
    if not star.record_id:
        return {}
    columns = (star.record_id, *star.captured_columns.names, DELETED)
    return {f"{star.name}_current": columns, f"{star.name}_history": (*columns, VALID_FROM, VALID_TO)}


def view_queries(
    star: StarTable, columns: Mapping[str, Iterable[str]], primary_key: Iterable[str] = ()
) -> dict[str, str]:
    """Return the queries of a fact's views by name, with these columns of each, in this order.

    A `primary_key` overrides the declared one.
    """
    key = column_list(primary_key or star.primary_key)
    queries = {}
    for name, selected in columns.items():
        selected = tuple(selected)
        stored = column_list(dict.fromkeys(column for column in selected if column not in (VALID_FROM, VALID_TO)))
        if name == f"{star.name}_current":
            versions = f"SELECT DISTINCT ON ({key}) {stored} FROM {relation(star)} ORDER BY {key}, {CAPTURED_AT} DESC"
            alias = "latest"
        else:
            versions = f"""SELECT {stored}, {CAPTURED_AT} AS {VALID_FROM},
                       lead({CAPTURED_AT}, 1, 'infinity') OVER (PARTITION BY {key} ORDER BY {CAPTURED_AT}) AS {VALID_TO}
                FROM {relation(star)}"""
            alias = "versions"
        queries[name] = f"""
            SELECT {column_list(selected)} FROM (
                {versions}
            ) {alias}
            WHERE NOT {DELETED}"""
    return queries


def view_statements(
    queries: Mapping[str, str], options: Mapping[str, Mapping[str, str]] | None = None, *, replace: bool = False
) -> dict[str, str]:
    """Return the statements that create views, or replace them, by name. `options` are by name, too."""
    create = "CREATE OR REPLACE VIEW" if replace else "CREATE VIEW"
    statements = {}
    for name, query in queries.items():
        settings = (options or {}).get(name, {}).items()
        with_ = ", ".join(f"{quote_identifier(option)} = {literal(value)}" for option, value in settings)
        statements[name] = f"{create} {qualified(name)} {f'WITH ({with_}) ' if with_ else ''}AS{query}"
    return statements


def views_version(queries: Mapping[str, str]) -> str:
    """Return a hash of the queries of a fact's views, as noted in `tables`."""
    return hashlib.sha256(repr(sorted(queries.items())).encode()).hexdigest()[:16]


def note_views_statement(star: StarTable, queries: Mapping[str, str]) -> str:
    """Return the statement that notes which queries the views of a fact have."""
    values = f"{literal(star.name)}, {literal(views_version(queries))}"
    return (
        f"INSERT INTO {TABLES} (star_table, views) VALUES ({values}) "
        "ON CONFLICT (star_table) DO UPDATE SET views = excluded.views"
    )


def _note_views(connection: Connection, stars: Sequence[StarTable]) -> None:
    """Note the queries of the views of facts of which nothing is noted: new ones, and those of an older release.

    The views of an older release have the columns of their table, as it was when they were created.
    """
    noted = {name for [name] in connection.run(f"SELECT star_table FROM {TABLES} WHERE views IS NOT NULL")}
    unnoted = [star for star in stars if star.keeps_every_version and star.name not in noted]
    if not unnoted:
        return
    columns: dict[str, list[str]] = {}
    for name, column in live_comments(connection):
        if column:
            columns.setdefault(name, []).append(column)
    for star in unnoted:
        queries = view_queries(star, {name: columns[name] for name in view_columns(star) if name in columns})
        connection.run(note_views_statement(star, queries))


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


def live_comments(connection: Connection) -> dict[tuple[str, str | None], str | None]:
    """Return the comments on all tables and views of the warehouse and on their columns, as `comments` does.

    Those without a comment are among them. The columns of each are in order.
    """
    return {
        (name, column): text
        for name, column, text in connection.run(
            """SELECT c.relname::text, a.name, d.description
               FROM pg_class c
               CROSS JOIN LATERAL (
                   SELECT 0 AS number, NULL::text AS name
                   UNION ALL SELECT attnum, attname::text FROM pg_attribute
                   WHERE attrelid = c.oid AND attnum > 0 AND NOT attisdropped
               ) a
               LEFT JOIN pg_description d
               ON d.objoid = c.oid AND d.classoid = 'pg_class'::regclass AND d.objsubid = a.number
               WHERE c.relnamespace = to_regnamespace(:schema) AND c.relkind IN ('r', 'p', 'v')
               ORDER BY c.relname, a.number""",
            schema=WAREHOUSE,
        )
    }


def comment_statement(name: str, column: str | None, text: str, *, is_view: bool) -> str:
    """Return the statement that sets the comment on a table, a view, or a column of either."""
    kind = "VIEW" if is_view else "TABLE"
    place = f"COLUMN {qualified(name)}.{quote_identifier(column)}" if column else f"{kind} {qualified(name)}"
    return f"COMMENT ON {place} IS {literal(text)}"


def _set_comments(connection: Connection, stars: Sequence[StarTable]) -> None:
    """Set the comments on tables, views and columns where they differ."""
    views = {name for star in stars for name in view_columns(star)}
    expected: dict[tuple[str, str | None], str] = {(name, None): text for name, (*_, text) in _BOOKKEEPING.items()}
    for star in stars:
        expected |= comments(star)
    for place, existing in live_comments(connection).items():
        text = expected.get(place, existing)
        if text is not None and text != existing:
            connection.run(comment_statement(*place, text, is_view=place[0] in views))


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
    readable = ["loads", *(star.name for star in stars), *(name for star in stars for name in view_columns(star))]
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
