"""The versions that the warehouse must hold, as recorded by totesys itself.

Triggers record every version of a row with its transaction; the manifest of a capture has the snapshot that decides
which transactions were visible to it.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import date
from typing import Any, NamedTuple

import pyarrow as pa

from etl_assets.adapters.object_store import Bucket
from etl_assets.adapters.postgres import Connection, column_list, connect, csv_chunks
from etl_assets.ingestion.manifest import Capture, list_after, list_partition, partition_of
from etl_assets.schema.columns import CAPTURED_AT
from etl_assets.simulator.activity import Totesys, create_schema
from etl_assets.simulator.postgres import Server
from etl_assets.transformation import STAR_TABLES
from etl_assets.transformation.star_table import StarTable
from etl_assets.warehouse.ddl import stored_columns
from etl_assets_tests.chaos import SEED
from etl_assets_tests.expected import CURRENT_STATE
from etl_assets_tests.harness import Platform
from etl_assets_tests.pipeline import FACTS, SOURCE, STAR

RECORDED = [star for star in STAR_TABLES if star.name in CURRENT_STATE]
"""The star tables that are made from tables of totesys: all but the calendar."""

_RECORDER = """
CREATE SCHEMA recorded;
CREATE TABLE recorded.versions (
    number bigserial PRIMARY KEY,
    xid xid8 NOT NULL DEFAULT pg_current_xact_id(),
    "table" text NOT NULL,
    key integer NOT NULL,
    version jsonb
);
CREATE INDEX ON recorded.versions ("table", key, number DESC);
CREATE TABLE recorded.truncations ("table" text NOT NULL, at timestamp NOT NULL DEFAULT clock_timestamp());
CREATE FUNCTION recorded.record() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    key_column text := TG_TABLE_NAME || '_id';
    before integer := to_jsonb(OLD) ->> key_column;
    after integer := to_jsonb(NEW) ->> key_column;
BEGIN
    IF before <> after OR after IS NULL THEN
        INSERT INTO recorded.versions ("table", key) VALUES (TG_TABLE_NAME, before);
    END IF;
    IF after IS NOT NULL THEN
        INSERT INTO recorded.versions ("table", key, version) VALUES (TG_TABLE_NAME, after, to_jsonb(NEW));
    END IF;
    RETURN NULL;
END $$;
CREATE FUNCTION recorded.record_truncate() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE format('INSERT INTO recorded.versions ("table", key) SELECT %L, %I FROM %I',
                   TG_TABLE_NAME, TG_TABLE_NAME || '_id', TG_TABLE_NAME);
    INSERT INTO recorded.truncations VALUES (TG_TABLE_NAME);
    RETURN NULL;
END $$
"""


def create_totesys(server: Server, name: str) -> str:
    """Create a database with three days of totesys that records the versions of its rows. Return its URL."""
    url = server.create_database(name)
    with connect(url) as connection:
        create_schema(connection)
        Totesys(connection, seed=SEED).generate_history(date(2024, 8, 19), date(2024, 8, 22))
        connection.run(_RECORDER)
        for table in SOURCE:
            connection.run(
                f"""INSERT INTO recorded.versions ("table", key, version)
                    SELECT '{table}', {table}_id, to_jsonb({table}) FROM {table}"""
            )
            connection.run(
                f"""CREATE TRIGGER record AFTER INSERT OR UPDATE OR DELETE ON {table}
                    FOR EACH ROW EXECUTE FUNCTION recorded.record();
                    CREATE TRIGGER record_truncate BEFORE TRUNCATE ON {table}
                    FOR EACH STATEMENT EXECUTE FUNCTION recorded.record_truncate()"""
            )
    return url


def all_captures(platform: Platform) -> list[Capture]:
    """Return all captures, oldest first."""
    bucket = Bucket(platform.ingestion_url)
    partitions = dict.fromkeys(partition_of(id_) for id_ in list_after(bucket, None))
    return [capture for partition in partitions for capture in list_partition(bucket, partition)]


def source_of(star: StarTable) -> str:
    """Return the table of totesys whose rows are those of a star table."""
    return star.inputs(STAR_TABLES)[0]


def finds_deletions(capture: Capture, star: StarTable) -> bool:
    """Whether a capture tells which rows of a star table are there."""
    return capture.is_full(source_of(star)) or capture.has_keys(source_of(star))


class Visible:
    """The rows of totesys that were visible in a snapshot, as its triggers recorded them."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        for table in SOURCE:  # in front of the tables on the search path
            connection.run(
                f"""CREATE TEMPORARY VIEW {table} AS
                    SELECT row.* FROM (
                        SELECT DISTINCT ON (key) key, version FROM recorded.versions
                        WHERE "table" = '{table}' AND pg_visible_in_snapshot(
                            xid, CAST(current_setting('recorded.snapshot') AS pg_snapshot))
                        ORDER BY key, number DESC
                    ) latest, jsonb_populate_record(NULL::public.{table}, latest.version) row
                    WHERE latest.version IS NOT NULL"""
            )

    def rows(self, star: StarTable, capture: Capture) -> dict[int, tuple[Any, ...]]:
        """Return the rows that a star table has for the snapshot of a capture, by key."""
        self._connection.run("SELECT set_config('recorded.snapshot', :snapshot, false)", snapshot=capture.snapshot)
        return {row[0]: tuple(row) for row in self._connection.run(CURRENT_STATE[star.name])}


@contextmanager
def visible_rows(platform: Platform) -> Iterator[Visible]:
    """Return what was visible in totesys."""
    with connect(platform.totesys_url) as connection:
        yield Visible(connection)


def expected_versions(platform: Platform) -> dict[str, list[tuple[Any, ...]]]:
    """Return by star table the versions that the warehouse must hold: columns, whether it is deleted, capture time.

    A row that is gone is deleted by the first capture that has all rows of its table, or the keys of all.
    """
    versions: dict[str, list[tuple[Any, ...]]] = {star.name: [] for star in RECORDED}
    latest: dict[str, dict[int, tuple[Any, ...]]] = {star.name: {} for star in RECORDED}
    with visible_rows(platform) as visible:
        for capture in all_captures(platform):
            for star in RECORDED:
                known = latest[star.name]
                now = {key: (*row, False) for key, row in visible.rows(star, capture).items()}
                if finds_deletions(capture, star):
                    now |= {key: (*known[key][:-1], True) for key in known.keys() - now.keys()}
                changed = {key: row for key, row in now.items() if known.get(key) != row}
                versions[star.name] += [(*row, capture.captured_at) for row in changed.values()]
                known |= changed
    return versions


class Checked(NamedTuple):
    """What was compared: versions, those of them that are deletions, and the moments of which every view was read."""

    versions: int
    deletions: int
    moments: int


_UNRESOLVED = " UNION ALL ".join(
    f"""SELECT '{fact.name}.{column}', {fact.primary_key[0]} FROM as_of.{fact.name} fact
        WHERE {column} IS NOT NULL
        AND NOT EXISTS (SELECT FROM as_of.{to} WHERE {STAR[to].primary_key[0]} = fact.{column})"""
    for fact in FACTS
    for column, to in fact.foreign_keys.items()
)
"""The query of the facts that refer to what the star does not have as of a moment."""


def assert_history_is_exact(platform: Platform) -> Checked:
    """Assert that the warehouse has every version that a capture saw, once, and no other; and that each view is right.

    The views as of a moment are read as of each capture, and as of now.
    """
    captures = all_captures(platform)
    expected = expected_versions(platform)
    with connect(platform.warehouse_url) as connection:
        for star in RECORDED:
            _store_expected(connection, star, expected[star.name])
        for star in RECORDED:
            _assert_versions_are_exact(connection, star)
        for time in [None, *(str(capture.captured_at) for capture in captures)]:
            connection.run("SELECT set_config('etl_assets.as_of', :time, false)", time=time or "")
            for star in RECORDED:
                _assert_equal(connection, f"as of {time}", _views(star, time))
            unresolved = connection.run(_UNRESOLVED)
            assert not unresolved, f"as of {time}: {unresolved[0]} refers to nothing"
    every = [version for versions in expected.values() for version in versions]
    return Checked(len(every), sum(version[-2] for version in every), len(captures) + 1)


def _stored(star: StarTable, alias: str = "") -> str:
    return column_list(stored_columns(star).names, alias)


def _store_expected(connection: Connection, star: StarTable, versions: Iterable[tuple[Any, ...]]) -> None:
    """Store the expected versions of a star table in a temporary table."""
    columns = [*star.columns.names, "deleted", CAPTURED_AT]
    schema = pa.schema([stored_columns(star).field(name) for name in columns])
    rows = pa.Table.from_pylist([dict(zip(columns, version, strict=True)) for version in versions], schema=schema)
    connection.run(f"CREATE TEMPORARY TABLE expected_{star.name} (LIKE warehouse.{star.versions.name})")
    if star.record_id:
        connection.run(f"ALTER TABLE expected_{star.name} DROP COLUMN {star.record_id}")
    connection.copy_in(f"expected_{star.name}", columns, csv_chunks(rows.to_batches()))
    connection.run(f"CREATE INDEX ON expected_{star.name} ({star.primary_key[0]}, {CAPTURED_AT})")
    connection.run(f"ANALYZE expected_{star.name}")


def _assert_versions_are_exact(connection: Connection, star: StarTable) -> None:
    expected = f"SELECT {_stored(star)} FROM expected_{star.name}"
    loaded = f"SELECT {_stored(star)} FROM warehouse.{star.versions.name}"
    for what, rows in (("lost", f"{expected} EXCEPT ALL {loaded}"), ("invented", f"{loaded} EXCEPT ALL {expected}")):
        differing = connection.run(f"{rows} ORDER BY {star.primary_key[0]}, {CAPTURED_AT}")
        assert not differing, f"{star.name}: {len(differing)} versions {what}, such as {differing[0]}"


def _views(star: StarTable, time: str | None) -> dict[str, tuple[str, str]]:
    """Return by view what it must have, and what it has, as queries."""
    name, key, columns = star.name, star.primary_key[0], _stored(star)
    until = f"CAST('{time or 'infinity'}' AS timestamp)"
    every = f"(SELECT * FROM expected_{name} WHERE {CAPTURED_AT} <= {until}) every"
    latest = f"(SELECT DISTINCT ON ({key}) * FROM {every} ORDER BY {key}, {CAPTURED_AT} DESC) latest"
    current = f"{latest} WHERE NOT deleted"
    valid = f"valid_from <= {until} AND (valid_to > {until} OR valid_to = 'infinity')"
    shown = f"SELECT {columns} FROM "
    views = {
        f"as_of.{star.versions.name}": (f"{shown} {every}", ""),
        f"as_of.{name}_history": (f"{shown} {every} WHERE NOT deleted", ""),
        f"as_of.{name}_history ": (f"{shown} {current}", f"WHERE {valid}"),
    }
    if star.record_id:
        views[f"as_of.{name}_current"] = (f"{shown} {current}", "")
    else:
        views[f"as_of.{name}"] = (f"{shown} {latest}", "")
        first = f"SELECT DISTINCT ON ({key}) {columns} FROM {{}} ORDER BY {key}, {CAPTURED_AT}"
        views[f"as_of.{name}_history  "] = (first.format(every), "WHERE valid_from = '-infinity'")
    queries = {view: (expected, f"{shown} {view} {condition}") for view, (expected, condition) in views.items()}
    if star.record_id:
        queries[f"as_of.{name}_as_was"] = _as_was(star, f"(SELECT * FROM {current}) fact", until)
    else:
        not_yet = f"SELECT FROM {every} WHERE every.{key} = version.{key}"
        current += f" UNION ALL ({first.format(f'expected_{name} version WHERE NOT EXISTS ({not_yet})')})"
    queries[f"warehouse.{name}_history "] = (f"{shown} {current}", f"{shown} warehouse.{name}_history WHERE {valid}")
    if time is None:
        now = {view: queries[view] for view in queries if view.startswith("as_of.")}
        queries |= {
            view.replace("as_of.", "warehouse."): (expected, actual.replace("as_of.", "warehouse."))
            for view, (expected, actual) in now.items()
        }
    return queries


def _as_was(fact: StarTable, facts: str, until: str) -> tuple[str, str]:
    """Return the queries of current facts with what their dimensions said when they happened.

    That is the latest version until then that is not deleted; or the first one, if there was none yet.
    """
    happened = "(fact.created_date + fact.created_time)"
    selected, names, joined = [_stored(fact, "fact")], [_stored(fact)], ""
    for number, (foreign_key, to) in enumerate(fact.foreign_keys.items()):
        if to == "dim_date":
            continue
        role = foreign_key.removesuffix("_id")
        columns = STAR[to].columns.names[1:]
        selected.append(column_list(columns, f"d{number}"))
        names += [column if column.startswith(f"{role}_") else f"{role}_{column}" for column in columns]
        joined += f""" LEFT JOIN LATERAL (
            SELECT * FROM expected_{to} version
            WHERE version.{STAR[to].primary_key[0]} = fact.{foreign_key} AND NOT deleted AND {CAPTURED_AT} <= {until}
            ORDER BY {CAPTURED_AT} <= {happened} DESC,
                     CASE WHEN {CAPTURED_AT} <= {happened} THEN {CAPTURED_AT} END DESC, {CAPTURED_AT}
            LIMIT 1) d{number} ON true"""
    expected = f"SELECT {', '.join(selected)} FROM {facts} {joined}"
    return expected, f"SELECT {', '.join(names)} FROM as_of.{fact.name}_as_was"


def _assert_equal(connection: Connection, when: str, views: dict[str, tuple[str, str]]) -> None:
    counts = connection.run(
        " UNION ALL ".join(
            f"""SELECT '{view}', (SELECT count(*) FROM (({expected}) EXCEPT ALL ({shown})) missing),
                       (SELECT count(*) FROM (({shown}) EXCEPT ALL ({expected})) surplus)"""
            for view, (expected, shown) in views.items()
        )
    )
    differing = [f"{view}: {missing} rows missing, {surplus} surplus" for view, missing, surplus in counts]
    wrong = [text for text, (_, missing, surplus) in zip(differing, counts, strict=True) if missing or surplus]
    assert not wrong, f"{when}: {'; '.join(wrong)}"
