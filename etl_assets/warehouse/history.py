"""SQL over the versions of a star table: those staged by a load, those loaded, and those pending."""

from pg8000.native import literal

from etl_assets.adapters.postgres import column_list, join_condition, quote_identifier
from etl_assets.schema.columns import CAPTURED_AT
from etl_assets.transformation.star_table import StarTable
from etl_assets.warehouse.ddl import DELETED, PENDING, relation

OF_CAPTURE = f"{CAPTURED_AT} = CAST(:captured_at AS timestamp)"
"""The condition that a row belongs to one capture, bound as `captured_at`."""


def staged(star: StarTable) -> str:
    """Return the name of the temporary table of a load's rows."""
    return quote_identifier(f"staged_{star.name}")


def staged_rejected(star: StarTable) -> str:
    """Return the name of the temporary table of a load's rejected rows."""
    return quote_identifier(f"rejected_{star.name}")


def key_json(star: StarTable, alias: str) -> str:
    """Return the primary key of a row as a jsonb object, as quarantined rows are identified."""
    parts = ", ".join(f"{literal(name)}, {alias}.{quote_identifier(name)}" for name in star.primary_key)
    return f"jsonb_build_object({parts})"


def _known_versions(star: StarTable, has_pending: bool, alias: str = "") -> str:
    """Return all loaded and pending versions, in the shape of staged ones.

    Given an alias, pending versions are limited to those with the key of the row it names.
    """
    deleted = DELETED if star.keeps_every_version else f"false AS {DELETED}"
    loaded = f"SELECT {column_list(star.captured_columns.names)}, {deleted} FROM {relation(star)}"
    if not has_pending:
        return f"({loaded})"
    same_key = f" AND pending.key = {key_json(star, alias)}" if alias else ""
    return f"""({loaded} UNION ALL SELECT version.*
        FROM {PENDING} pending, jsonb_populate_record(NULL::{staged(star)}, pending."row") version
        WHERE pending.star_table = {literal(star.name)}{same_key})"""


def join_previous(star: StarTable, has_pending: bool) -> str:
    """Return the join of each staged version to the known one, `previous`, at or before its time."""
    return f"""LEFT JOIN LATERAL (
            SELECT previous.* FROM {_known_versions(star, has_pending, alias="staged")} previous
            WHERE {join_condition(star.primary_key, "previous", "staged")}
            AND previous.{CAPTURED_AT} <= staged.{CAPTURED_AT}
            ORDER BY previous.{CAPTURED_AT} DESC LIMIT 1
        ) previous ON true"""


def is_new(star: StarTable) -> str:
    """Return the condition that a staged version is not known, and differs from `previous`."""
    columns = (*star.columns.names, DELETED)
    return f"""(previous.{CAPTURED_AT} IS NULL
            OR previous.{CAPTURED_AT} < staged.{CAPTURED_AT}
               AND ROW({column_list(columns, "previous")}) IS DISTINCT FROM ROW({column_list(columns, "staged")}))"""


def stage_tombstones(star: StarTable, has_pending: bool) -> str:
    """Return the statement that stages a deleted version of every fact that a full capture no longer has.

    Facts that the capture rejected are not deleted. If a rejected row cannot be matched to a fact, none is deleted.
    """
    key = column_list(star.primary_key)
    key_names = ", ".join(literal(name) for name in star.primary_key)
    return f"""INSERT INTO {staged(star)} ({column_list(star.columns.names)}, {CAPTURED_AT}, {DELETED})
            SELECT {column_list(star.columns.names, "latest")}, CAST(:captured_at AS timestamp), true
            FROM (SELECT DISTINCT ON ({key}) * FROM {_known_versions(star, has_pending)} versions
                  WHERE {CAPTURED_AT} <= CAST(:captured_at AS timestamp)
                  AND NOT EXISTS (SELECT FROM {staged(star)} present
                                  WHERE present.{OF_CAPTURE}
                                  AND {join_condition(star.primary_key, "present", "versions")})
                  ORDER BY {key}, {CAPTURED_AT} DESC) latest
            WHERE NOT latest.{DELETED}
            AND NOT EXISTS (SELECT FROM {staged_rejected(star)} rejected
                            WHERE rejected.{OF_CAPTURE} AND rejected.key = {key_json(star, "latest")})
            AND NOT EXISTS (SELECT FROM {staged_rejected(star)} unmatched
                            WHERE unmatched.{OF_CAPTURE}
                            AND NOT jsonb_exists_all(unmatched.key, ARRAY[{key_names}]))"""


def merge(star: StarTable, has_pending: bool, *, is_empty: bool, only_rows: bool = False) -> str:
    """Return the statement that merges the staged versions of a capture, or only those bound as `rows` (`ctid`s).

    A fact gains the versions that are new. A dimension's row is replaced if the staged one differs and is not older.
    """
    columns = star.captured_columns.names
    chosen = f"staged.{OF_CAPTURE}{' AND staged.ctid = ANY(CAST(:rows AS tid[]))' if only_rows else ''}"
    if not star.keeps_every_version:
        replaced = [name for name in columns if name not in star.primary_key]
        compared = [name for name in star.columns.names if name not in star.primary_key]
        return f"""
        INSERT INTO {relation(star)} AS present ({column_list(columns)})
        SELECT {column_list(columns)} FROM {staged(star)} staged WHERE {chosen}
        ON CONFLICT ({column_list(star.primary_key)}) DO UPDATE
        SET ({column_list(replaced)}) = ROW({column_list(replaced, "excluded")})
        WHERE present.{CAPTURED_AT} <= excluded.{CAPTURED_AT}
        AND ROW({column_list(compared, "present")}) IS DISTINCT FROM ROW({column_list(compared, "excluded")})"""
    if has_pending or not is_empty:
        previous = join_previous(star, has_pending)
    else:  # A lookup for each row would take as long as its insert.
        previous = f"LEFT JOIN (SELECT * FROM {staged(star)} WHERE false) previous ON true"
    columns = [*columns, DELETED]
    return f"""
        INSERT INTO {relation(star)} ({column_list(columns)})
        SELECT {column_list(columns, "staged")}
        FROM {staged(star)} staged {previous}
        WHERE {chosen} AND {is_new(star)}"""
