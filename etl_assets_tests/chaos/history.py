"""The versions that the warehouse must hold, as recorded by totesys itself.

Triggers record every version of a fact with its transaction; the manifest of a capture has the snapshot that decides
which transactions were visible to it.
"""

from datetime import date
from typing import Any

from etl_assets.adapters.object_store import Bucket
from etl_assets.adapters.postgres import column_list, connect, quote_identifier
from etl_assets.ingestion.manifest import Capture, list_after, list_partition, partition_of
from etl_assets.schema.columns import CAPTURED_AT
from etl_assets.simulator.activity import Totesys, create_schema
from etl_assets.simulator.postgres import Server
from etl_assets_tests.chaos import SEED
from etl_assets_tests.expected import CURRENT_STATE
from etl_assets_tests.harness import Platform
from etl_assets_tests.pipeline import FACTS

_FACT_OF = {star.name.removeprefix("fact_"): star for star in FACTS}

_RECORDER = """
CREATE SCHEMA recorded;
CREATE TABLE recorded.versions (
    number bigserial PRIMARY KEY,
    xid xid8 NOT NULL DEFAULT pg_current_xact_id(),
    "table" text NOT NULL,
    key integer NOT NULL,
    version jsonb
);
CREATE FUNCTION recorded.record() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    before jsonb := to_jsonb(OLD);
    after jsonb := to_jsonb(NEW);
BEGIN
    INSERT INTO recorded.versions ("table", key, version)
    VALUES (TG_TABLE_NAME, CAST(coalesce(after, before) ->> (TG_TABLE_NAME || '_id') AS integer), after);
    RETURN NULL;
END $$
"""


def create_totesys(server: Server, name: str) -> str:
    """Create a database with three days of totesys that records the versions of its facts. Return its URL."""
    url = server.create_database(name)
    with connect(url) as connection:
        create_schema(connection)
        Totesys(connection, seed=SEED).generate_history(date(2024, 8, 19), date(2024, 8, 22))
        connection.run(_RECORDER)
        for table in _FACT_OF:
            connection.run(
                f"""INSERT INTO recorded.versions ("table", key, version)
                    SELECT '{table}', {table}_id, to_jsonb({table}) FROM {table}"""
            )
            connection.run(
                f"""CREATE TRIGGER record AFTER INSERT OR UPDATE OR DELETE ON {table}
                    FOR EACH ROW EXECUTE FUNCTION recorded.record()"""
            )
    return url


def all_captures(platform: Platform) -> list[Capture]:
    """Return all captures, oldest first."""
    bucket = Bucket(platform.ingestion_url)
    partitions = dict.fromkeys(partition_of(id_) for id_ in list_after(bucket, None))
    return [capture for partition in partitions for capture in list_partition(bucket, partition)]


def expected_versions(platform: Platform) -> dict[str, list[tuple[Any, ...]]]:
    """Return by fact the versions that the warehouse must hold: columns, whether it is a tombstone, capture time."""
    captures = all_captures(platform)
    versions: dict[str, list[tuple[Any, ...]]] = {}
    with connect(platform.totesys_url) as connection:
        for table, star in _FACT_OF.items():
            versions[star.name] = []
            latest: dict[int, tuple[Any, ...]] = {}
            for capture in captures:
                rows = connection.run(_visible_rows(table), snapshot=capture.snapshot)
                visible = {row[0]: (*row, False) for row in rows}
                deleted = latest.keys() - visible.keys() if capture.full else ()
                tombstones = {key: (*latest[key][:-1], True) for key in deleted}
                changed = {key: row for key, row in (visible | tombstones).items() if latest.get(key) != row}
                versions[star.name] += [(*row, capture.captured_at) for row in changed.values()]
                latest |= changed
    return versions


def _visible_rows(table: str) -> str:
    """Return the SQL of the rows of a fact that are visible in a snapshot."""
    visible = f"""(SELECT row.* FROM (
            SELECT DISTINCT ON (key) * FROM recorded.versions
            WHERE "table" = '{table}' AND pg_visible_in_snapshot(xid, CAST(:snapshot AS pg_snapshot))
            ORDER BY key, number DESC
        ) latest, jsonb_populate_record(NULL::{table}, latest.version) row
        WHERE latest.version IS NOT NULL) AS {table}"""
    return CURRENT_STATE[f"fact_{table}"].replace(f"FROM {table}", f"FROM {visible}")


def loaded_versions(platform: Platform) -> dict[str, list[tuple[Any, ...]]]:
    """Return by fact the versions that the warehouse holds."""
    return {
        star.name: [
            tuple(row)
            for row in platform.warehouse(
                f"""SELECT {column_list(star.columns.names)}, deleted, {CAPTURED_AT}
                    FROM warehouse.{quote_identifier(star.name)}"""
            )
        ]
        for star in FACTS
    }


def assert_history_is_exact(platform: Platform) -> int:
    """Assert that the warehouse has every version that a capture saw, once, and no other. Return their number."""
    expected, loaded = expected_versions(platform), loaded_versions(platform)
    for fact, versions in expected.items():
        lost, invented = set(versions) - set(loaded[fact]), set(loaded[fact]) - set(versions)
        assert not lost, f"{fact}: {len(lost)} versions lost, such as {min(lost)}"
        assert not invented, f"{fact}: {len(invented)} versions invented, such as {min(invented)}"
        assert len(loaded[fact]) == len(versions), f"{fact}: duplicate versions"
        assert_history_view_is_exact(platform, fact, versions)
    return sum(map(len, expected.values()))


def assert_history_view_is_exact(platform: Platform, fact: str, versions: list[tuple[Any, ...]]) -> None:
    """Assert that the history view, as of each capture, has the latest version of each key that is not deleted."""
    columns = column_list(_FACT_OF[fact.removeprefix("fact_")].columns.names)
    with connect(platform.warehouse_url) as connection:
        for time in {version[-1] for version in versions}:
            latest = {
                version[0]: version for version in sorted(versions, key=lambda each: each[-1]) if version[-1] <= time
            }
            as_of = connection.run(
                f"""SELECT {columns} FROM warehouse.{quote_identifier(f"{fact}_history")}
                    WHERE valid_from <= CAST(:time AS timestamp) AND CAST(:time AS timestamp) < valid_to""",
                time=time,
            )
            expected = {tuple(version[:-2]) for version in latest.values() if not version[-2]}
            assert {tuple(row) for row in as_of} == expected, f"{fact} as of {time}"
            assert len(as_of) == len(expected), f"{fact} as of {time}: duplicate rows"
