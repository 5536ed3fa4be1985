"""SQL over the versions of a star table: those staged by a load, and those loaded before.

Staged versions may be of one capture, of a partition's or of all: each is compared with the one before it.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial

from pg8000.native import literal

from etl_assets.adapters.postgres import column_list, join_condition, quote_identifier
from etl_assets.schema.columns import CAPTURED_AT, DELETED
from etl_assets.schema.types import sql_type
from etl_assets.transformation.star_table import StarTable
from etl_assets.warehouse.ddl import stored_columns
from etl_assets.warehouse.relations import latest_versions, relation

HELD = "held"
"""The column of staged versions that are not loaded: a foreign key of theirs does not resolve yet."""

NUMBER = "number"
"""The column that numbers new versions by time."""

LIST, FIRST_LIST, LAST_LIST = "list", "first_list", "last_list"
"""The columns that number lists of keys by time."""


def staged(star: StarTable) -> str:
    """Return the name of the temporary table of a load's rows."""
    return quote_identifier(f"staged_{star.name}")


def staged_rejected(star: StarTable) -> str:
    """Return the name of the temporary table of a load's rejected rows."""
    return quote_identifier(f"rejected_{star.name}")


def new(star: StarTable) -> str:
    """Return the name of the temporary table of the staged versions that are new."""
    return quote_identifier(f"new_{star.name}")


def complete_captures(star: StarTable) -> str:
    """Return the name of the temporary table with the captures that have every row, or the key of every row."""
    return quote_identifier(f"complete_{star.name}")


def present_keys(star: StarTable) -> str:
    """Return the name of the temporary table that tells which keys are in which lists of keys."""
    return quote_identifier(f"keys_{star.name}")


def surplus(star: StarTable) -> str:
    """Return the name of the temporary table with the keys that a replaced table is not to have any more."""
    return quote_identifier(f"surplus_{star.name}")


def create_staged(star: StarTable) -> str:
    """Return the statement that creates the temporary table of a load's rows."""
    columns = [f"{quote_identifier(column.name)} {sql_type(column.type)}" for column in star.captured_columns]
    flags = [f"{flag} boolean NOT NULL DEFAULT false" for flag in (DELETED, HELD)]
    return f"CREATE TEMPORARY TABLE {staged(star)} ({', '.join([*columns, *flags])}) ON COMMIT DROP"


def key_json(star: StarTable, alias: str) -> str:
    """Return the primary key of a row as a jsonb object, as quarantined rows are identified."""
    parts = ", ".join(f"{literal(name)}, {alias}.{quote_identifier(name)}" for name in star.primary_key)
    return f"jsonb_build_object({parts})"


def _loaded(star: StarTable) -> str:
    """Return the query of the loaded versions, in the shape of staged ones."""
    return f"SELECT {column_list(stored_columns(star).names)} FROM {relation(star.versions)}"


def new_versions(star: StarTable, *, is_empty: bool, one_capture: bool, restaged: bool = False) -> str:
    """Return the query of the staged versions that are not loaded, and differ from the one before.

    That one is staged or loaded. With `is_empty`, none is loaded, or those that are do not count; with `one_capture`,
    no staged version is before another. With `restaged`, there may be tombstones that `create_substitutes` replaced.
    """
    columns = (*star.columns.names, DELETED)
    version = f"ROW({column_list(columns, 'version')})"
    key, condition, before, join = column_list(star.primary_key), "true", "", ""
    if not one_capture:
        before = f""", lag(ROW({column_list(columns)})) OVER by_time AS before,
                       lag({CAPTURED_AT}) OVER by_time AS before_at"""
        condition = f"version.before IS DISTINCT FROM {version}"
    if not is_empty:
        same_key = join_condition(star.primary_key, "loaded", "version")
        join = f"""LEFT JOIN LATERAL (
                SELECT * FROM ({_loaded(star)}) loaded
                WHERE {same_key} AND loaded.{CAPTURED_AT} <= version.{CAPTURED_AT}
                ORDER BY loaded.{CAPTURED_AT} DESC LIMIT 1) loaded ON true"""
        differs = f"ROW({column_list(columns, 'loaded')}) IS DISTINCT FROM {version}"
        staged_is_nearer = "" if one_capture else f"WHEN version.before_at > loaded.{CAPTURED_AT} THEN {condition}"
        is_replaced = f"loaded.{DELETED} AND version.{DELETED} AND {differs}" if restaged else "false"
        condition = f"""CASE WHEN loaded.{CAPTURED_AT} IS NULL THEN {condition}
            WHEN loaded.{CAPTURED_AT} = version.{CAPTURED_AT} THEN {is_replaced}
            {staged_is_nearer} ELSE {differs} END"""
    return f"""SELECT {column_list((*star.captured_columns.names, DELETED, HELD), "version")}
        FROM (SELECT *{before} FROM {staged(star)}
              WINDOW by_time AS (PARTITION BY {key} ORDER BY {CAPTURED_AT})) version {join}
        WHERE {condition}"""


def create_new(star: StarTable, *, is_empty: bool, one_capture: bool, restaged: bool = False) -> str:
    """Return the statement that keeps the new versions in a temporary table, numbered by time."""
    return f"""CREATE TEMPORARY TABLE {new(star)} ON COMMIT DROP AS
        SELECT *, row_number() OVER (ORDER BY {CAPTURED_AT}) AS {NUMBER}
        FROM ({new_versions(star, is_empty=is_empty, one_capture=one_capture, restaged=restaged)}) versions"""


def create_substitutes(star: StarTable, *, is_empty: bool) -> str:
    """Return the statement that adds tombstones of deleted rows whose latest version is held, and so their own, too.

    They have the values of the latest version that is not held. When the references arrive, the tombstone itself
    replaces its substitute.
    """
    columns, same_key = column_list(star.columns.names), partial(join_condition, star.primary_key)
    loaded, is_absent = "", ""
    if not is_empty:
        loaded = f"UNION ALL {_loaded(star)}"
        is_absent = f"AND {_is_absent(star, 'tombstone')}"
    return f"""INSERT INTO {new(star)} ({columns}, {CAPTURED_AT}, {DELETED}, {HELD}, {NUMBER})
        SELECT {column_list(star.columns.names, "before")}, tombstone.{CAPTURED_AT}, true, false,
               (SELECT max({NUMBER}) FROM {new(star)}) + row_number() OVER (ORDER BY tombstone.{CAPTURED_AT})
        FROM {new(star)} tombstone
        CROSS JOIN LATERAL (
            SELECT * FROM (SELECT {columns}, {CAPTURED_AT}, {DELETED} FROM {new(star)}
                           WHERE NOT {HELD} {loaded}) version
            WHERE {same_key("version", "tombstone")} AND version.{CAPTURED_AT} < tombstone.{CAPTURED_AT}
            ORDER BY version.{CAPTURED_AT} DESC LIMIT 1) before
        WHERE tombstone.{HELD} AND tombstone.{DELETED} AND NOT before.{DELETED} {is_absent}
        AND NOT EXISTS (
            SELECT FROM {new(star)} earlier WHERE {same_key("earlier", "tombstone")} AND earlier.{HELD}
            AND earlier.{DELETED} AND earlier.{CAPTURED_AT} > before.{CAPTURED_AT}
            AND earlier.{CAPTURED_AT} < tombstone.{CAPTURED_AT})"""


def numbered(star: StarTable) -> str:
    """Return the query of the new versions with numbers from `:first` to `:last`."""
    return f"SELECT * FROM {new(star)} WHERE {NUMBER} BETWEEN CAST(:first AS bigint) AND CAST(:last AS bigint)"


def merge(
    star: StarTable,
    versions: str,
    *,
    is_empty: bool,
    one_capture: bool = False,
    restaged: bool = False,
    replaces: bool = False,
) -> str:
    """Return the statement that loads new versions, and returns by time of capture how many, and how many tombstones.

    Each row ends with how many rows all of them add to the table, unless it `is_empty`. Those held are left out. With
    `is_empty`, no version is loaded; with `one_capture`, those to load are in order as they are; with `restaged`, some
    replace their substitutes; if they `replace` all others, some may be loaded. The latest version of each row of a
    dimension goes to the table of the latest versions, too, unless that has a later one.
    """
    columns, key = stored_columns(star).names, column_list(star.primary_key)
    is_new = f"WHERE {_is_absent(star, 'wanted')}" if replaces else ""
    in_order = "" if one_capture else f"ORDER BY {CAPTURED_AT}"
    latest, or_replace = "", ""
    if restaged:
        or_replace = f"ON CONFLICT ({column_list(_version_key(star))}) {_do_update(columns, _version_key(star))}"
    if not star.keeps_every_version:
        later = f"present.{CAPTURED_AT} {'<=' if restaged else '<'} excluded.{CAPTURED_AT}"
        conflict = f"ON CONFLICT ({key}) {_do_update(columns, star.primary_key)} WHERE {later}"
        latest = f""", latest AS (
            INSERT INTO {relation(star)} AS present ({column_list(columns)})
            SELECT DISTINCT ON ({key}) {column_list(columns)} FROM wanted ORDER BY {key}, {CAPTURED_AT} DESC
            {"" if is_empty else conflict})"""
    added = "NULL" if is_empty else f"({_added_rows(star)})"
    # Messages have the beginning of a statement.
    return f"""/* merge into {star.name} */
        WITH wanted AS (SELECT {column_list(columns)} FROM ({versions}) versions WHERE NOT {HELD}),
        merged AS (
            INSERT INTO {relation(star.versions)} ({column_list(columns)})
            SELECT {column_list(columns)} FROM wanted {is_new} {in_order} {or_replace}
            RETURNING {CAPTURED_AT}, {DELETED}){latest}
        SELECT {CAPTURED_AT}, count(*), count(*) FILTER (WHERE {DELETED}), {added}
        FROM merged GROUP BY {CAPTURED_AT}"""


def count_rows(star: StarTable) -> str:
    """Return the query of the number of rows of a dimension, or of the current rows of a fact."""
    return f"SELECT count(*) FROM {latest_versions(star)}"


def _added_rows(star: StarTable) -> str:
    """Return the query of the number by which the versions in `wanted` change what `count_rows` counts.

    It sees the table as it was before the statement that it is part of.
    """
    same_key = join_condition(star.primary_key, "present", "version")
    versions = f"""(SELECT DISTINCT ON ({column_list(star.primary_key)}) * FROM wanted
              ORDER BY {column_list(star.primary_key)}, {CAPTURED_AT} DESC) version"""
    if not star.keeps_every_version:
        return (
            f"SELECT count(*) FROM {versions} WHERE NOT EXISTS (SELECT FROM {relation(star)} present WHERE {same_key})"
        )
    return f"""SELECT coalesce(sum(CASE WHEN before.{CAPTURED_AT} > version.{CAPTURED_AT} THEN 0
            ELSE CAST(NOT version.{DELETED} AS integer) - CAST(before.{DELETED} IS FALSE AS integer) END), 0)
        FROM {versions}
        LEFT JOIN LATERAL (SELECT {CAPTURED_AT}, {DELETED} FROM {relation(star)} present WHERE {same_key}
                           ORDER BY {CAPTURED_AT} DESC LIMIT 1) before ON true"""


def _do_update(columns: Sequence[str], key: Sequence[str]) -> str:
    replaced = [name for name in columns if name not in key]
    return f"DO UPDATE SET ({column_list(replaced)}) = ROW({column_list(replaced, 'excluded')})"


@dataclass(frozen=True)
class RowKeys:
    """The keys by which a rejected row identifies a row of a star table, as jsonb: its own, and that of its source.

    source_key: the columns of the source that the primary key is taken from as it is, if there are such.
    """

    star: StarTable
    source_key: tuple[str, ...] | None

    def _names(self) -> Iterator[tuple[str, ...]]:
        yield self.star.primary_key
        if self.source_key and self.source_key != self.star.primary_key:
            yield self.source_key

    def of(self, alias: str) -> str:
        """Return the keys of a row, separated by commas."""
        keys = (
            ", ".join(
                f"{literal(name)}, {alias}.{quote_identifier(column)}"
                for name, column in zip(names, self.star.primary_key, strict=True)
            )
            for names in self._names()
        )
        return ", ".join(f"jsonb_build_object({key})" for key in keys)

    def identify(self, key: str) -> str:
        """Return the condition that a key identifies a row."""
        names = (", ".join(map(literal, each)) for each in self._names())
        return f"({' OR '.join(f'jsonb_exists_all({key}, ARRAY[{each}])' for each in names)})"


def create_present_keys(star: StarTable) -> str:
    """Return the statement that creates the temporary table of keys: each is in some consecutive lists."""
    types = {column.name: sql_type(column.type) for column in star.columns}
    key = ", ".join(f"{quote_identifier(name)} {types[name]} NOT NULL" for name in star.primary_key)
    return f"""CREATE TEMPORARY TABLE {present_keys(star)}
        ({key}, {FIRST_LIST} integer NOT NULL, {LAST_LIST} integer NOT NULL) ON COMMIT DROP"""


def create_complete_captures(keys: RowKeys) -> str:
    """Return the statement that keeps captures in a temporary table, by their times and the numbers of their lists.

    They are bound as `times` and `lists`; one that has every row has no list. Captures with a rejected row that
    identifies no row are left out: nothing is deleted by them.
    """
    star = keys.star
    return f"""CREATE TEMPORARY TABLE {complete_captures(star)} ON COMMIT DROP AS
        SELECT * FROM unnest(CAST(:times AS timestamp[]), CAST(:lists AS integer[])) captures ({CAPTURED_AT}, {LIST})
        WHERE NOT EXISTS (SELECT FROM {staged_rejected(star)} unmatched
                          WHERE unmatched.{CAPTURED_AT} = captures.{CAPTURED_AT}
                          AND "table" IN (:star, :source) AND NOT {keys.identify("unmatched.key")})"""


def _is_listed(star: StarTable, captures: str, row: str) -> str:
    """Return the condition that the key of a row is in the list of a complete capture."""
    return f"""EXISTS (SELECT FROM {present_keys(star)} present
        WHERE {join_condition(star.primary_key, "present", row)}
        AND {captures}.{LIST} BETWEEN {FIRST_LIST} AND {LAST_LIST})"""


def stage_tombstones(keys: RowKeys, *, is_empty: bool) -> str:
    """Return the statement that stages a deleted version of every row that a complete capture no longer has.

    Rows that the capture rejected are not deleted. With `is_empty`, no version is loaded, or those that are do not
    count. Versions after the latest complete capture have no part in it. `lists` is the number of lists of keys.
    """
    star = keys.star
    columns, key = column_list((*star.captured_columns.names, DELETED)), column_list(star.primary_key)
    loaded = "" if is_empty else f"UNION ALL {_loaded(star)}"
    return f"""WITH always_present AS (
            SELECT {key} FROM (
                SELECT {key}, 1 AS captures FROM {staged(star)}
                JOIN {complete_captures(star)} USING ({CAPTURED_AT}) WHERE {LIST} IS NULL
                UNION ALL
                SELECT {key}, {LAST_LIST} - {FIRST_LIST} + 1 FROM {present_keys(star)}) present
            GROUP BY {key} HAVING sum(captures) = (SELECT count(*) FROM {complete_captures(star)})
            AND :lists = (SELECT count({LIST}) FROM {complete_captures(star)}))
        INSERT INTO {staged(star)} ({columns})
        SELECT {column_list(star.columns.names, "version")}, tombstone.{CAPTURED_AT}, true
        FROM (SELECT *, lead({CAPTURED_AT}, 1, 'infinity') OVER (PARTITION BY {key} ORDER BY {CAPTURED_AT}) AS next_at
              FROM (SELECT {columns} FROM {staged(star)} {loaded}) version
              WHERE {CAPTURED_AT} <= (SELECT max({CAPTURED_AT}) FROM {complete_captures(star)})
              AND NOT EXISTS (SELECT FROM always_present
                              WHERE {join_condition(star.primary_key, "always_present", "version")})) version
        CROSS JOIN LATERAL (
            SELECT captures.{CAPTURED_AT} FROM {complete_captures(star)} captures
            WHERE captures.{CAPTURED_AT} > version.{CAPTURED_AT} AND captures.{CAPTURED_AT} < version.next_at
            AND NOT EXISTS (SELECT FROM {staged_rejected(star)} rejected
                            WHERE rejected.{CAPTURED_AT} = captures.{CAPTURED_AT}
                            AND rejected.key IN ({keys.of("version")}))
            AND NOT {_is_listed(star, "captures", "version")}
            ORDER BY captures.{CAPTURED_AT} LIMIT 1) tombstone
        WHERE NOT version.{DELETED}"""


def count_wanted(star: StarTable) -> str:
    """Return the query of the number of versions to load, and of tombstones among them, by time of capture."""
    return f"""SELECT {CAPTURED_AT}, count(*), count(*) FILTER (WHERE {DELETED})
        FROM ({_wanted(star)}) wanted GROUP BY {CAPTURED_AT}"""


def _wanted(star: StarTable) -> str:
    return f"SELECT * FROM {new(star)} WHERE NOT {HELD}"


def _version_key(star: StarTable) -> tuple[str, ...]:
    """Return the columns that identify a version."""
    return (*star.primary_key, CAPTURED_AT)


def _is_absent(star: StarTable, version: str) -> str:
    same = join_condition(_version_key(star), "present", version)
    return f"NOT EXISTS (SELECT FROM {relation(star.versions)} present WHERE {same})"


def update(star: StarTable) -> str:
    """Return the statement that updates the versions that differ from new ones, numbered `:first` to `:last`.

    It returns what `merge` does. A version keeps its record id, and columns that are not declared.
    """
    key = _version_key(star)
    replaced = [name for name in stored_columns(star).names if name not in key]
    values = column_list(replaced, "wanted")
    return f"""WITH updated AS (
            UPDATE {relation(star.versions)} present SET ({column_list(replaced)}) = ROW({values})
            FROM ({numbered(star)}) wanted
            WHERE NOT wanted.{HELD} AND {join_condition(key, "present", "wanted")}
            AND ROW({column_list(replaced, "present")}) IS DISTINCT FROM ROW({values})
            RETURNING present.{CAPTURED_AT})
        SELECT {CAPTURED_AT}, count(*), 0, NULL FROM updated GROUP BY {CAPTURED_AT}"""


def delete_surplus(star: StarTable) -> str:
    """Return the statement that deletes the versions that are not among the new ones."""
    same = join_condition(_version_key(star), "present", "wanted")
    return f"""DELETE FROM {relation(star.versions)} present
        WHERE NOT EXISTS (SELECT FROM ({_wanted(star)}) wanted WHERE {same})"""


def mark_replaced(star: StarTable) -> str:
    """Return the statement that dates back the latest versions that are not among the new ones, for `merge`."""
    columns, key = stored_columns(star).names, column_list(star.primary_key)
    same = f"ROW({column_list(columns, 'wanted')}) IS NOT DISTINCT FROM ROW({column_list(columns, 'present')})"
    return f"""UPDATE {relation(star)} present SET {CAPTURED_AT} = '-infinity' WHERE NOT EXISTS (
            SELECT FROM (SELECT DISTINCT ON ({key}) * FROM ({_wanted(star)}) wanted
                         ORDER BY {key}, {CAPTURED_AT} DESC) wanted
            WHERE {join_condition(star.primary_key, "wanted", "present")} AND {same})"""


def create_surplus(star: StarTable) -> str:
    """Return the statement that keeps the keys that no version replaced in a temporary table."""
    return f"""CREATE TEMPORARY TABLE {surplus(star)} ON COMMIT DROP AS
        SELECT {column_list(star.primary_key)} FROM {relation(star)} WHERE {CAPTURED_AT} = '-infinity'"""


def refresh_latest(star: StarTable) -> str:
    """Return the statement that makes the latest versions of a dimension what they are among all."""
    columns, key = stored_columns(star).names, column_list(star.primary_key)
    return f"""INSERT INTO {relation(star)} AS present ({column_list(columns)})
        SELECT DISTINCT ON ({key}) {column_list(columns)} FROM {relation(star.versions)}
        ORDER BY {key}, {CAPTURED_AT} DESC
        ON CONFLICT ({key}) {_do_update(columns, star.primary_key)}
        WHERE ROW({column_list(columns, "present")}) IS DISTINCT FROM ROW({column_list(columns, "excluded")})"""


def delete_latest(star: StarTable) -> str:
    """Return the statement that deletes the rows of a dimension of which no version is left."""
    same_key = join_condition(star.primary_key, "present", "version")
    return f"""DELETE FROM {relation(star)} present
        WHERE NOT EXISTS (SELECT FROM {relation(star.versions)} version WHERE {same_key})"""
