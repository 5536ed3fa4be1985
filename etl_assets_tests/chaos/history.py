"""What the warehouse must hold, told by totesys itself: triggers note every version of its facts, with the transaction
that wrote it, and a manifest tells which transactions its capture could see."""

from typing import Any

from etl_assets.buckets import Bucket
from etl_assets.captures import Capture, following, in_partition, partition_of
from etl_assets.databases import Connection, connect, names, quoted
from etl_assets.tables import CAPTURED_AT
from etl_assets.transformation import STAR_TABLES
from etl_assets_tests.oracle import CURRENT_STATE
from etl_assets_tests.platform import Platform

FACTS = {star.name.removeprefix("fact_"): star for star in STAR_TABLES if star.record_id}

_NOTES = """
CREATE SCHEMA noted;
CREATE TABLE noted.versions (
    number bigserial PRIMARY KEY,
    xid xid8 NOT NULL DEFAULT pg_current_xact_id(),
    "table" text NOT NULL,
    key integer NOT NULL,
    version jsonb
);
CREATE FUNCTION noted.note() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    before jsonb := to_jsonb(OLD);
    after jsonb := to_jsonb(NEW);
BEGIN
    INSERT INTO noted.versions ("table", key, version)
    VALUES (TG_TABLE_NAME, CAST(coalesce(after, before) ->> (TG_TABLE_NAME || '_id') AS integer), after);
    RETURN NULL;
END $$
"""


def watch(connection: Connection) -> None:
    """Note the versions of facts that are there, and from now on every change of one."""
    connection.run(_NOTES)
    for table in FACTS:
        connection.run(
            f"""INSERT INTO noted.versions ("table", key, version)
                SELECT '{table}', {table}_id, to_jsonb({table}) FROM {table}"""
        )
        connection.run(
            f"""CREATE TRIGGER note AFTER INSERT OR UPDATE OR DELETE ON {table}
                FOR EACH ROW EXECUTE FUNCTION noted.note()"""
        )


def captures(platform: Platform) -> list[Capture]:
    """Every capture there is, oldest first."""
    bucket = Bucket(platform.ingestion_url)
    partitions = dict.fromkeys(partition_of(id_) for id_ in following(bucket, None))
    return [capture for partition in partitions for capture in in_partition(bucket, partition)]


def expected(platform: Platform) -> dict[str, list[tuple[Any, ...]]]:
    """The versions of each fact that the warehouse must hold: key, content, time, and whether it closes."""
    made = captures(platform)
    histories: dict[str, list[tuple[Any, ...]]] = {}
    with connect(platform.totesys_url) as connection:
        for table, star in FACTS.items():
            histories[star.name] = []
            last: dict[int, tuple[Any, ...]] = {}
            for capture in made:
                seen = {row[0]: (*row, False) for row in _seen(connection, table, capture)}
                gone = {key: (*row[:-1], True) for key, row in last.items() if key not in seen} if capture.full else {}
                changed = {key: row for key, row in (seen | gone).items() if last.get(key) != row}
                histories[star.name] += [(*row, capture.captured_at) for row in changed.values()]
                last |= changed
    return histories


def _seen(connection: Connection, table: str, capture: Capture) -> list[list[Any]]:
    """The star rows of a table as the snapshot of a capture saw it."""
    visible = f"""(SELECT row.* FROM (
            SELECT DISTINCT ON (key) * FROM noted.versions
            WHERE "table" = '{table}' AND pg_visible_in_snapshot(xid, CAST(:snapshot AS pg_snapshot))
            ORDER BY key, number DESC
        ) latest, jsonb_populate_record(NULL::{table}, latest.version) row
        WHERE latest.version IS NOT NULL) AS {table}"""
    query = CURRENT_STATE[f"fact_{table}"].replace(f"FROM {table}", f"FROM {visible}")
    return connection.run(query, snapshot=capture.snapshot)


def loaded(platform: Platform) -> dict[str, list[tuple[Any, ...]]]:
    """The versions of each fact that the warehouse holds."""
    return {
        star.name: [
            tuple(row)
            for row in platform.warehouse(
                f"SELECT {names(star.columns.names)}, deleted, {CAPTURED_AT} FROM warehouse.{quoted(star.name)}"
            )
        ]
        for star in FACTS.values()
    }


def assert_history_is_exact(platform: Platform) -> int:
    """Assert that the warehouse has every version that a capture saw, once, and no other; give their number."""
    must, have = expected(platform), loaded(platform)
    for fact, versions in must.items():
        missing = set(versions) - set(have[fact])
        invented = set(have[fact]) - set(versions)
        assert not missing, f"{fact}: {len(missing)} versions lost, such as {min(missing)}"
        assert not invented, f"{fact}: {len(invented)} versions invented, such as {min(invented)}"
        assert len(have[fact]) == len(versions), f"{fact}: a version is there twice"
        assert_as_of_any_time_is_as_it_was(platform, fact, versions)
    return sum(map(len, must.values()))


def assert_as_of_any_time_is_as_it_was(platform: Platform, fact: str, versions: list[tuple[Any, ...]]) -> None:
    """Assert that the view of the history has, as of each capture, the versions that were the last of their keys."""
    star = FACTS[fact.removeprefix("fact_")]
    with connect(platform.warehouse_url) as connection:
        for time in {version[-1] for version in versions}:
            then = {
                version[0]: version for version in sorted(versions, key=lambda each: each[-1]) if version[-1] <= time
            }
            as_of = connection.run(
                f"""SELECT {names(star.columns.names)} FROM warehouse.{quoted(f"{fact}_history")}
                    WHERE valid_from <= CAST(:time AS timestamp) AND CAST(:time AS timestamp) < valid_to""",
                time=time,
            )
            present = {tuple(version[:-2]) for version in then.values() if not version[-2]}
            assert {tuple(row) for row in as_of} == present, f"{fact} as of {time}"
            assert len(as_of) == len(present), f"{fact} as of {time}: a row is there twice"
