"""The tables and views of the warehouse: their DDL, comments and grants."""

from collections.abc import Iterable, Sequence, Set

import pyarrow as pa
from pg8000.native import literal

from etl_assets.adapters.postgres import Connection, column_list, quote_identifier
from etl_assets.adapters.schema_drift import schema_drift
from etl_assets.catalog.stages import WAREHOUSE
from etl_assets.schema.columns import CAPTURED_AT, DELETED, VALID_FROM, VALID_TO, description_of
from etl_assets.schema.errors import PermanentError
from etl_assets.schema.types import sql_type
from etl_assets.transformation.star_table import StarTable
from etl_assets.warehouse.relations import (
    ANALYST,
    AS_OF,
    AS_OF_SETTING,
    LOADS,
    MOMENT,
    TABLES,
    as_of,
    is_ours,
    live_name,
    qualified,
    relation,
)
from etl_assets.warehouse.views import (
    as_was_joins,
    as_was_name,
    as_was_queries,
    as_was_tables,
    note_views_statement,
    view_columns,
    view_names,
    view_queries,
    view_statements,
)

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
        {"star_table": "text", "rule": "text", "built_at": "timestamp", "views": "text", "row_count": "bigint"},
        ("star_table",),
        "By which version of its rule each star table was built, when (UTC), and how many rows it has; a fact, in its "
        "view _current.",
    ),
    "reconciliations": (
        {
            "captured_at": "timestamp",
            "star_table": "text",
            "source_table": "text NOT NULL",
            "source_rows": "bigint NOT NULL",
            "warehouse_rows": "bigint NOT NULL",
            "repaired": "bigint NOT NULL",
            "set_apart": "bigint NOT NULL",
            "source_checksum": "text",
            "warehouse_checksum": "text",
            "differing": "bigint",
            "first_keys": "jsonb NOT NULL DEFAULT '[]'",
            "reconciled_at": "timestamp NOT NULL DEFAULT (now() AT TIME ZONE 'UTC')",
        },
        ("star_table", "captured_at"),
        "Each star table, compared with its source table as of a full capture. Rows set apart are not a difference.",
    ),
}


class SchemaMissingError(PermanentError):
    """The role of the warehouse may not create schemas."""

    def __init__(self, schemas: Iterable[str], role: str) -> None:
        create = "; ".join(f"CREATE SCHEMA {schema} AUTHORIZATION {quote_identifier(role)}" for schema in schemas)
        super().__init__(f"the warehouse lacks a schema, and the role {role} may not create it: run {create}")


def create_bookkeeping(connection: Connection) -> None:
    """Create the schemas and the bookkeeping tables, or what is missing in those of an older release.

    Raises:
        SchemaMissingError: the role may not create a schema.
    """
    _create_schemas(connection)
    live: dict[str, set[str]] = {}
    for name, column in connection.run(
        """SELECT c.relname::text, a.attname::text FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid
           WHERE c.relnamespace = to_regnamespace(:schema) AND c.relname = ANY(:names) AND a.attnum > 0""",
        schema=WAREHOUSE,
        names=[*_BOOKKEEPING, *_RENAMED],
    ):
        live.setdefault(name, set()).add(column)
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
    _create_moment(connection)


def _create_schemas(connection: Connection) -> None:
    [[missing, may_create, role]] = connection.run(
        """SELECT ARRAY(SELECT name FROM unnest(CAST(:schemas AS text[])) AS name WHERE to_regnamespace(name) IS NULL),
                  has_database_privilege(current_database(), 'CREATE'), current_user::text""",
        schemas=[WAREHOUSE, AS_OF],
    )
    if missing and not may_create:
        raise SchemaMissingError(missing, role)
    for schema in missing:
        connection.run(f"CREATE SCHEMA IF NOT EXISTS {schema}")


def _create_moment(connection: Connection) -> None:
    """Create the function that returns the moment of the session's setting, and the loads until then."""
    [[has_moment, has_loads]] = connection.run(
        "SELECT to_regprocedure(:moment) IS NOT NULL, to_regclass(:loads) IS NOT NULL",
        moment=f"{MOMENT}()",
        loads=as_of("loads"),
    )
    if not has_moment:
        connection.run(
            f"""CREATE FUNCTION {MOMENT}() RETURNS timestamp LANGUAGE sql STABLE PARALLEL SAFE SET timezone TO 'UTC'
                AS $$ SELECT coalesce(CAST(nullif(current_setting({literal(AS_OF_SETTING)}, true), '') AS timestamptz)
                                      AT TIME ZONE 'UTC', 'infinity') $$"""
        )
        connection.run(
            f"COMMENT ON FUNCTION {MOMENT}() IS "
            + literal(f"The time (UTC) in the setting {AS_OF_SETTING}, or infinity: the latest state.")
        )
    if not has_loads:
        columns, _, comment = _BOOKKEEPING["loads"]
        query = f"SELECT {column_list(columns)} FROM {LOADS} WHERE {CAPTURED_AT} <= (SELECT {MOMENT}())"
        connection.run(f"CREATE VIEW {as_of('loads')} AS {query}")
        connection.run(f"COMMENT ON VIEW {as_of('loads')} IS {literal(comment)}")


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
    create_bookkeeping(connection)
    existing = {name for [name] in connection.run(f"SELECT {live_name('c')} FROM pg_class c WHERE {is_ours('c')}")}
    checked = [star for star in stars if star.name not in unchecked]
    tables = stored_tables(checked)
    expected = {table.name: _nullable(stored_columns(table)) for table in tables if table.name in existing}
    schema_drift(connection, WAREHOUSE, WAREHOUSE, expected)
    statements = {table.name: table_statement(table) for table in tables}
    for table in tables:
        statements |= view_statements(view_queries(table, view_columns(table)))
    as_was = [(fact, as_was_queries(fact, stars)) for fact in stars if not unchecked & as_was_tables(fact, stars)]
    for _, queries in as_was:
        statements |= view_statements(queries)
    for name, statement in statements.items():
        if name not in existing:
            connection.run(statement)
    _copy_latest_versions(connection, [table for table in tables if table.name not in existing])
    _note_views(connection, tables)
    for fact, queries in as_was:
        if queries and not existing & queries.keys():
            connection.run(note_views_statement(as_was_name(fact), queries))
    _set_comments(connection, checked, stars)
    _grant_to_analysts(connection, stars)
    return [star for star in checked if star.name not in existing]


def _copy_latest_versions(connection: Connection, created: Iterable[StarTable]) -> None:
    """Give new tables of versions those that their dimensions have: of an older release, or if history is kept."""
    for table in created:
        if table.versions_of:
            columns = column_list(stored_columns(table).names)
            latest = f"SELECT {columns} FROM {qualified(table.versions_of)}"
            connection.run(f"INSERT INTO {relation(table)} ({columns}) {latest}")


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


def stored_tables(stars: Iterable[StarTable]) -> list[StarTable]:
    """Return the tables in which star tables are stored: each one, and after a dimension, its versions."""
    return [table for star in stars for table in ((star,) if star.versions is star else (star, star.versions))]


def stored_columns(star: StarTable) -> pa.Schema:
    """Return the columns of a table that a load writes."""
    return star.captured_columns.append(pa.field(DELETED, pa.bool_(), nullable=False))


def column_definition(column: pa.Field) -> str:
    """Return the definition of a column, without NOT NULL; one that is ours alone has a default."""
    default = " DEFAULT false" if column.name == DELETED else ""
    return f"{quote_identifier(column.name)} {sql_type(column.type)}{default}"


def table_statement(star: StarTable) -> str:
    """Return the statement that creates a star table, without its foreign keys."""
    definitions = [f"{column_definition(each)}{'' if each.nullable else ' NOT NULL'}" for each in stored_columns(star)]
    if star.record_id:
        definitions.insert(0, f"{quote_identifier(star.record_id)} serial PRIMARY KEY")
    return f"CREATE TABLE {relation(star)} ({', '.join((*definitions, key_constraint(star)))})"


def key_constraint(star: StarTable) -> str:
    """Return the constraint that keeps the rows of a star table apart."""
    if star.keeps_every_version:
        return f"UNIQUE ({column_list((*star.primary_key, CAPTURED_AT))})"
    return f"PRIMARY KEY ({column_list(star.primary_key)})"


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
        connection.run(note_views_statement(star.name, queries))


_DELETED_COMMENT = "Whether totesys no longer has the row. True in the version of the capture that found it gone."
_AS_OF_COMMENT = f"as of the time in the setting {AS_OF_SETTING} (UTC; not set: now)"


def comments(star: StarTable, stars: Iterable[StarTable]) -> dict[tuple[str, str | None], str]:
    """Return the comments on a star table, its views and their columns, by relation and column (None: the relation)."""
    columns: dict[str | None, str] = {column.name: description_of(column) for column in star.captured_columns}
    columns[DELETED] = _DELETED_COMMENT
    columns[CAPTURED_AT] = "Time of the capture that saw this version first, or found the row gone; UTC."
    if star.record_id:
        columns[star.record_id] = "Serial number of the version, assigned when it is loaded."
    validity: dict[str | None, str] = {
        VALID_FROM: "Start of validity, UTC: the time of the capture that first saw the version.",
        VALID_TO: "End of validity, UTC, exclusive: valid_from of the next version, or infinity.",
    }
    every_version = "every version, with the period in which it was valid."
    at_a_time = f"WHERE {VALID_FROM} <= t AND t < {VALID_TO}"
    name = star.name
    texts = {name: columns | {None: star.description}}
    if star.record_id:
        texts[f"{name}_current"] = columns | {None: f"{name}: the latest version of each row, without deleted rows."}
        validity[None] = f"{name}: {every_version} State as of a time t: {at_a_time}."
    else:
        texts[star.versions.name] = columns | {None: star.versions.description}
        validity[None] = f"{name}: {every_version} The version that a fact saw at a time t: {at_a_time}."
        validity[VALID_FROM] += " The first version of a row is valid from -infinity, for facts that are older."
    texts[f"{name}_history"] = columns | validity
    stars = tuple(stars)
    if joins := as_was_joins(star, stars):
        as_was = columns | {None: f"{name}_current with each dimension row as it was when the event happened."}
        for join in joins:
            described = {each.name: description_of(each) for each in join.dimension.columns}
            as_was |= {name: described[column] for name, column in join.columns.items()}
        texts[as_was_name(star)] = as_was
    for name, text in [*texts.items()]:
        texts[as_of(name)] = text | {None: f"{text[None].rstrip('.')}, {_AS_OF_COMMENT}."}
    return {(name, column): text for name in texts for column, text in texts[name].items()}


def live_comments(connection: Connection) -> dict[tuple[str, str | None], str | None]:
    """Return the comments on all tables and views of the warehouse and on their columns, as `comments` does.

    Those without a comment are among them. The columns of each are in order.
    """
    return {
        (name, column): text
        for name, column, text in connection.run(
            f"""SELECT {live_name("c")}, a.name, d.description
               FROM pg_class c
               CROSS JOIN LATERAL (
                   SELECT 0 AS number, NULL::text AS name
                   UNION ALL SELECT attnum, attname::text FROM pg_attribute
                   WHERE attrelid = c.oid AND attnum > 0 AND NOT attisdropped
               ) a
               LEFT JOIN pg_description d
               ON d.objoid = c.oid AND d.classoid = 'pg_class'::regclass AND d.objsubid = a.number
               WHERE {is_ours("c")} AND c.relkind IN ('r', 'p', 'v')
               ORDER BY c.relname, a.number"""
        )
    }


def comment_statement(name: str, column: str | None, text: str, *, is_view: bool) -> str:
    """Return the statement that sets the comment on a table, a view, or a column of either."""
    kind = "VIEW" if is_view else "TABLE"
    place = f"COLUMN {qualified(name)}.{quote_identifier(column)}" if column else f"{kind} {qualified(name)}"
    return f"COMMENT ON {place} IS {literal(text)}"


def _set_comments(connection: Connection, checked: Iterable[StarTable], stars: Sequence[StarTable]) -> None:
    """Set the comments on tables, views and columns where they differ."""
    views = view_names(stars)
    expected: dict[tuple[str, str | None], str] = {(name, None): text for name, (*_, text) in _BOOKKEEPING.items()}
    for star in checked:
        expected |= comments(star, stars)
    statements = [
        comment_statement(*place, text, is_view=place[0] in views)
        for place, existing in live_comments(connection).items()
        if (text := expected.get(place)) is not None and text != (existing or "")
    ]
    if statements:  # hundreds of a new warehouse, in one message
        connection.run("; ".join(statements))


def ungranted(connection: Connection) -> str | None:
    """Return why nothing is granted to the role `analyst`, or None: one that logs in is somebody's, not ours."""
    if connection.run("SELECT FROM pg_roles WHERE rolname = :role AND rolcanlogin", role=ANALYST):
        return (
            f"nothing is granted to the role {ANALYST}, because it can log in, so it may be someone's own: if it is to "
            f"read the warehouse, ALTER ROLE {ANALYST} NOLOGIN, and make its users members of it"
        )
    return None


def closed_to_analysts(connection: Connection) -> str | None:
    """Return why a load does not let analysts read the warehouse, and what to do; None if it does."""
    if any(_analysts(connection)):
        return ungranted(connection)
    return f"the role {ANALYST} does not exist, and the user may not create it: run CREATE ROLE {ANALYST} NOLOGIN"


def _analysts(connection: Connection) -> tuple[bool, bool]:
    """Return whether the role `analyst` exists, and whether the user may create roles."""
    [[exists, may_create]] = connection.run(
        """SELECT EXISTS (SELECT FROM pg_roles WHERE rolname = :role), rolcreaterole OR rolsuper
           FROM pg_roles WHERE rolname = current_user""",
        role=ANALYST,
    )
    return exists, may_create


def missing_grants(connection: Connection, stars: Sequence[StarTable]) -> list[str]:
    """Return the statements that give the user what it lacks of the rights that loads and rebuilds need.

    These are temporary tables, tables in the schemas of the warehouse that exist, and the ownership of what is there.
    """
    rows = connection.run(
        f"""SELECT format('GRANT TEMPORARY ON DATABASE %I TO %I', current_database(), current_user)
            WHERE NOT has_database_privilege(current_database(), 'TEMPORARY')
            UNION ALL
            SELECT format('GRANT USAGE, CREATE ON SCHEMA %I TO %I', nspname, current_user) FROM pg_namespace
            WHERE nspname = ANY(:schemas)
            AND NOT (has_schema_privilege(oid, 'USAGE') AND has_schema_privilege(oid, 'CREATE'))
            UNION ALL
            SELECT DISTINCT CASE WHEN owner.rolsuper
                THEN format('ALTER TABLE %s OWNER TO %I', c.oid::regclass, current_user)
                ELSE format('GRANT %I TO %I', owner.rolname, current_user) END
            FROM pg_class c JOIN pg_roles owner ON owner.oid = c.relowner
            WHERE {is_ours("c")} AND {live_name("c")} = ANY(:names) AND NOT pg_has_role(owner.oid, 'USAGE')""",
        schemas=[WAREHOUSE, AS_OF],
        names=[*_BOOKKEEPING, as_of("loads"), *(table.name for table in stored_tables(stars)), *view_names(stars)],
    )
    return [statement for [statement] in rows]


def _grant_to_analysts(connection: Connection, stars: Sequence[StarTable]) -> None:
    """Grant the role `analyst` SELECT on the star tables, their views, `loads` and `reconciliations`, and no more.

    A user without the right to create roles grants nothing until someone has created the role.
    """
    exists, may_create = _analysts(connection)
    if ungranted(connection) or not (exists or may_create):
        return
    if not exists:
        # Another warehouse on the same server may create the role at the same moment.
        connection.run(
            f"""DO $$ BEGIN CREATE ROLE {ANALYST} NOLOGIN;
                EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL; END $$"""
        )
    tables = [table.name for table in stored_tables(stars)]
    not_granted = connection.run(
        f"""SELECT {live_name("c")} FROM pg_class c
            WHERE {is_ours("c")} AND {live_name("c")} = ANY(:readable)
            AND NOT has_table_privilege(:role, c.oid, 'SELECT')""",
        readable=["loads", as_of("loads"), "reconciliations", *tables, *view_names(stars)],
        role=ANALYST,
    )
    if not_granted:
        connection.run(f"GRANT USAGE ON SCHEMA {WAREHOUSE}, {AS_OF} TO {ANALYST}")
        connection.run(f"GRANT SELECT ON {', '.join(qualified(name) for [name] in not_granted)} TO {ANALYST}")
