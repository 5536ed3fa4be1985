"""SQL over the versions of a star table: those staged by a load, and those loaded before.

Staged versions may be of one capture, of a partition's or of all: each is compared with the one before it.
"""

from pg8000.native import literal

from etl_assets.adapters.postgres import column_list, join_condition, quote_identifier
from etl_assets.schema.columns import CAPTURED_AT
from etl_assets.schema.types import sql_type
from etl_assets.transformation.star_table import StarTable
from etl_assets.warehouse.ddl import DELETED, relation

HELD = "held"
"""The column of staged versions that are not loaded: a foreign key of theirs does not resolve yet."""

NUMBER = "number"
"""The column that numbers new versions by time."""


def staged(star: StarTable) -> str:
    """Return the name of the temporary table of a load's rows."""
    return quote_identifier(f"staged_{star.name}")


def staged_rejected(star: StarTable) -> str:
    """Return the name of the temporary table of a load's rejected rows."""
    return quote_identifier(f"rejected_{star.name}")


def new(star: StarTable) -> str:
    """Return the name of the temporary table of the staged versions that are new."""
    return quote_identifier(f"new_{star.name}")


def full_captures(star: StarTable) -> str:
    """Return the name of the temporary table with the times of the captures that have every row."""
    return quote_identifier(f"full_{star.name}")


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


def stored_columns(star: StarTable) -> list[str]:
    """Return the columns of a table that a load writes."""
    return [*star.captured_columns.names, *([DELETED] if star.keeps_every_version else [])]


def _loaded(star: StarTable) -> str:
    """Return the query of the loaded versions, in the shape of staged ones."""
    deleted = DELETED if star.keeps_every_version else f"false AS {DELETED}"
    return f"SELECT {column_list(star.captured_columns.names)}, {deleted} FROM {relation(star)}"


def new_versions(star: StarTable, *, is_empty: bool, one_capture: bool) -> str:
    """Return the query of the staged versions that are not loaded, and differ from the one before.

    That one is staged or loaded. With `is_empty`, none is loaded, or those that are do not count; with `one_capture`,
    no staged version is before another. A table that keeps the latest version has no new one that is older than it.
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
        join = f"LEFT JOIN ({_loaded(star)}) loaded ON {same_key}"
        if star.keeps_every_version:
            join = f"""LEFT JOIN LATERAL (
                SELECT * FROM ({_loaded(star)}) loaded
                WHERE {same_key} AND loaded.{CAPTURED_AT} <= version.{CAPTURED_AT}
                ORDER BY loaded.{CAPTURED_AT} DESC LIMIT 1) loaded ON true"""
        differs = f"ROW({column_list(columns, 'loaded')}) IS DISTINCT FROM {version}"
        staged_is_nearer = "" if one_capture else f"WHEN version.before_at > loaded.{CAPTURED_AT} THEN {condition}"
        condition = f"""CASE WHEN loaded.{CAPTURED_AT} IS NULL THEN {condition}
            WHEN loaded.{CAPTURED_AT} >= version.{CAPTURED_AT} THEN false
            {staged_is_nearer} ELSE {differs} END"""
    return f"""SELECT {column_list((*star.captured_columns.names, DELETED, HELD), "version")}
        FROM (SELECT *{before} FROM {staged(star)}
              WINDOW by_time AS (PARTITION BY {key} ORDER BY {CAPTURED_AT})) version {join}
        WHERE {condition}"""


def create_new(star: StarTable, *, is_empty: bool, one_capture: bool) -> str:
    """Return the statement that keeps the new versions in a temporary table, numbered by time."""
    return f"""CREATE TEMPORARY TABLE {new(star)} ON COMMIT DROP AS
        SELECT *, row_number() OVER (ORDER BY {CAPTURED_AT}) AS {NUMBER}
        FROM ({new_versions(star, is_empty=is_empty, one_capture=one_capture)}) versions"""


def numbered(star: StarTable) -> str:
    """Return the query of the new versions with numbers from `:first` to `:last`."""
    return f"SELECT * FROM {new(star)} WHERE {NUMBER} BETWEEN CAST(:first AS bigint) AND CAST(:last AS bigint)"


def _latest(star: StarTable, versions: str) -> str:
    """Return the query of the versions to load: all, or the latest of each key, without those held."""
    if star.keeps_every_version:
        return f"SELECT * FROM ({versions}) versions WHERE NOT {HELD}"
    key = column_list(star.primary_key)
    return f"""SELECT DISTINCT ON ({key}) * FROM ({versions}) versions
        WHERE NOT {HELD} ORDER BY {key}, {CAPTURED_AT} DESC"""


def merge(star: StarTable, versions: str, *, is_empty: bool, one_capture: bool = False) -> str:
    """Return the statement that loads new versions, and returns by time of capture how many, and how many tombstones.

    A row of a table that keeps the latest version is replaced by a newer one. With `is_empty`, there is none; with
    `one_capture`, the versions are in order as they are.
    """
    columns, in_order = stored_columns(star), "" if one_capture else f"ORDER BY {CAPTURED_AT}"
    if star.keeps_every_version:
        conflict, deleted = "", DELETED
    else:
        replaced, deleted = [name for name in columns if name not in star.primary_key], "false"
        conflict = (
            ""
            if is_empty
            else f"""ON CONFLICT ({column_list(star.primary_key)}) DO UPDATE
            SET ({column_list(replaced)}) = ROW({column_list(replaced, "excluded")})
            WHERE present.{CAPTURED_AT} < excluded.{CAPTURED_AT}"""
        )
    return f"""WITH merged AS (
            INSERT INTO {relation(star)} AS present ({column_list(columns)})
            SELECT {column_list(columns)} FROM ({_latest(star, versions)}) versions {in_order} {conflict}
            RETURNING present.{CAPTURED_AT}, {deleted} AS {DELETED})
        SELECT {CAPTURED_AT}, count(*), count(*) FILTER (WHERE {DELETED}) FROM merged GROUP BY {CAPTURED_AT}"""


def create_full_captures(star: StarTable) -> str:
    """Return the statement that keeps the times of full captures, bound as `times`, in a temporary table.

    Captures with a rejected row that cannot be matched to a row are left out: nothing is deleted by them.
    """
    names = ", ".join(literal(name) for name in star.primary_key)
    return f"""CREATE TEMPORARY TABLE {full_captures(star)} ON COMMIT DROP AS
        SELECT {CAPTURED_AT} FROM unnest(CAST(:times AS timestamp[])) captures ({CAPTURED_AT})
        WHERE NOT EXISTS (SELECT FROM {staged_rejected(star)} unmatched
                          WHERE unmatched.{CAPTURED_AT} = captures.{CAPTURED_AT}
                          AND NOT jsonb_exists_all(unmatched.key, ARRAY[{names}]))"""


def stage_tombstones(star: StarTable, *, is_empty: bool) -> str:
    """Return the statement that stages a deleted version of every row that a full capture no longer has.

    Rows that the capture rejected are not deleted. With `is_empty`, no version is loaded, or those that are do not
    count. Versions after the latest full capture have no part in it.
    """
    columns, key = column_list((*star.captured_columns.names, DELETED)), column_list(star.primary_key)
    loaded = "" if is_empty else f"UNION ALL {_loaded(star)}"
    return f"""WITH always_present AS (
            SELECT {key} FROM {staged(star)} JOIN {full_captures(star)} USING ({CAPTURED_AT})
            GROUP BY {key} HAVING count(*) = (SELECT count(*) FROM {full_captures(star)}))
        INSERT INTO {staged(star)} ({columns})
        SELECT {column_list(star.columns.names, "version")}, tombstone.{CAPTURED_AT}, true
        FROM (SELECT *, lead({CAPTURED_AT}, 1, 'infinity') OVER (PARTITION BY {key} ORDER BY {CAPTURED_AT}) AS next_at
              FROM (SELECT {columns} FROM {staged(star)} {loaded}) version
              WHERE {CAPTURED_AT} <= (SELECT max({CAPTURED_AT}) FROM {full_captures(star)})
              AND NOT EXISTS (SELECT FROM always_present
                              WHERE {join_condition(star.primary_key, "always_present", "version")})) version
        CROSS JOIN LATERAL (
            SELECT captures.{CAPTURED_AT} FROM {full_captures(star)} captures
            WHERE captures.{CAPTURED_AT} > version.{CAPTURED_AT} AND captures.{CAPTURED_AT} < version.next_at
            AND NOT EXISTS (SELECT FROM {staged_rejected(star)} rejected
                            WHERE rejected.{CAPTURED_AT} = captures.{CAPTURED_AT}
                            AND rejected.key = {key_json(star, "version")})
            ORDER BY captures.{CAPTURED_AT} LIMIT 1) tombstone
        WHERE NOT version.{DELETED}"""


def count_wanted(star: StarTable) -> str:
    """Return the query of the number of versions to load, and of tombstones among them, by time of capture."""
    return f"""SELECT {CAPTURED_AT}, count(*), count(*) FILTER (WHERE {DELETED})
        FROM ({_latest(star, _all_new(star))}) wanted GROUP BY {CAPTURED_AT}"""


def _all_new(star: StarTable) -> str:
    return f"SELECT * FROM {new(star)}"


def _version_key(star: StarTable) -> tuple[str, ...]:
    """Return the columns that identify a row of the table."""
    return (*star.primary_key, CAPTURED_AT) if star.keeps_every_version else star.primary_key


def update(star: StarTable) -> str:
    """Return the statement that updates the rows that differ from new versions, numbered `:first` to `:last`.

    It returns what `merge` does. A row keeps its record id, and columns that are not declared.
    """
    key = _version_key(star)
    replaced = [name for name in stored_columns(star) if name not in key]
    values = column_list(replaced, "wanted")
    return f"""WITH updated AS (
            UPDATE {relation(star)} present SET ({column_list(replaced)}) = ROW({values})
            FROM ({_latest(star, numbered(star))}) wanted
            WHERE {join_condition(key, "present", "wanted")}
            AND ROW({column_list(replaced, "present")}) IS DISTINCT FROM ROW({values})
            RETURNING present.{CAPTURED_AT})
        SELECT {CAPTURED_AT}, count(*), 0 FROM updated GROUP BY {CAPTURED_AT}"""


def _is_surplus(star: StarTable) -> str:
    wanted, same = _latest(star, _all_new(star)), join_condition(_version_key(star), "present", "wanted")
    return f"NOT EXISTS (SELECT FROM ({wanted}) wanted WHERE {same})"


def delete_surplus(star: StarTable) -> str:
    """Return the statement that deletes the rows that are not among the new versions."""
    return f"DELETE FROM {relation(star)} present WHERE {_is_surplus(star)}"


def create_surplus(star: StarTable) -> str:
    """Return the statement that keeps the keys of those rows in a temporary table instead."""
    return f"""CREATE TEMPORARY TABLE {surplus(star)} ON COMMIT DROP AS
        SELECT {column_list(star.primary_key)} FROM {relation(star)} present WHERE {_is_surplus(star)}"""


def numbered_absent(star: StarTable) -> str:
    """Return the query of the numbered versions that the table does not have.

    Of a table that keeps the latest version, it returns all: merging leaves out those that are not newer.
    """
    if not star.keeps_every_version:
        return numbered(star)
    same = join_condition(_version_key(star), "present", "wanted")
    return f"""SELECT * FROM ({numbered(star)}) wanted
        WHERE NOT EXISTS (SELECT FROM {relation(star)} present WHERE {same})"""
