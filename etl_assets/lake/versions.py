"""The versions of the rows of a star table, found capture by capture, as the warehouse finds them (ADR 13 and 14)."""

from collections.abc import Sequence, Set
from datetime import datetime

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from etl_assets.schema.columns import CAPTURED_AT, CAPTURED_AT_TYPE, DELETED, VALID_FROM, VALID_TO, about, optional
from etl_assets.transformation.star_table import StarTable
from etl_assets.transformation.unchanged_rows import as_before

_DELETED = about("Whether totesys no longer has the row: this capture found it gone.", pa.bool_()).with_name(DELETED)
_VALIDITY = (
    about("From when it was valid, UTC; null: from the beginning of time.", optional(CAPTURED_AT_TYPE)),
    about("Until when it was valid, UTC; null: it still is.", optional(CAPTURED_AT_TYPE)),
)


def latest_schema(star: StarTable) -> pa.Schema:
    """Return the columns of the latest versions of a star table."""
    return star.captured_columns.append(_DELETED)


def version_schema(star: StarTable) -> pa.Schema:
    """Return the columns of the versions of a star table."""
    validity = (column.with_name(name) for name, column in zip((VALID_FROM, VALID_TO), _VALIDITY, strict=True))
    return pa.schema([*latest_schema(star), *validity])


class Versions:
    """The latest version of each key of a star table, among the captures added so far. No others are held.

    latest: in the columns of `version_schema`.
    """

    def __init__(self, star: StarTable) -> None:
        self._star = star
        self._schema = version_schema(star)
        self.latest = self._schema.empty_table()

    def add(self, rows: pa.Table) -> pa.Table:
        """Add rows of captures that are later than those before. Return the versions that they end.

        A row is a version if it differs from the row before it of the same key. The first version of a dimension row is
        valid from the beginning of time.
        """
        key = self._star.primary_key
        is_touched = is_among(self.latest, rows, key)
        known, others = self.latest.filter(is_touched), self.latest.filter(pc.invert(is_touched))
        every = pa.concat_tables([known, self._versions(rows, deleted=False)])
        order = pc.sort_indices(every, [(name, "ascending") for name in (*key, CAPTURED_AT)]).to_numpy()
        in_order = every.take(order)
        is_version = ~as_before(in_order, (*self._star.columns.names, DELETED))
        versions = in_order.filter(pa.array(is_version))
        follows = as_before(versions, key)
        if not self._star.keeps_every_version:
            is_first = ~follows & (order[is_version] >= known.num_rows)
            valid_from = pc.if_else(pa.array(is_first), None, versions.column(VALID_FROM))
            versions = versions.set_column(versions.num_columns - 2, self._schema.field(VALID_FROM), valid_from)
        has_ended = np.append(follows, [False])[1:] if len(follows) else follows
        next_at = versions.column(CAPTURED_AT).slice(1)
        ended = pa.array(has_ended)
        self.latest = pa.concat_tables([others, versions.filter(pc.invert(ended))]).combine_chunks()
        valid_to = pa.chunked_array([*next_at.chunks, pa.nulls(min(1, len(follows)), CAPTURED_AT_TYPE)])
        return self._ending(versions, valid_to).filter(ended)

    def delete(self, captured_at: datetime, present: pa.Table, kept: Set[tuple[str, ...]]) -> pa.Table:
        """Mark the rows as deleted that a capture lacks, later than all that were added. Return the versions it ends.

        present: the keys that the capture has.
        kept: other keys that it has, as text.
        """
        key = self._star.primary_key
        is_gone = pc.and_not(pc.invert(self.latest.column(DELETED)), is_among(self.latest, present, key))
        if kept:
            texts = zip(*(map(str, self.latest.column(name).to_pylist()) for name in key), strict=True)
            is_gone = pc.and_not(is_gone, pa.chunked_array([[text in kept for text in texts]], pa.bool_()))
        gone, others = self.latest.filter(is_gone), self.latest.filter(pc.invert(is_gone))
        times = pa.chunked_array([pa.repeat(pa.scalar(captured_at, CAPTURED_AT_TYPE), gone.num_rows)])
        found = gone.select(self._star.columns.names).append_column(CAPTURED_AT, times)
        if gone.num_rows:
            self.latest = pa.concat_tables([others, self._versions(found, deleted=True)]).combine_chunks()
        return self._ending(gone, times)

    def _versions(self, rows: pa.Table, *, deleted: bool) -> pa.Table:
        """Return rows as versions that have not ended."""
        rows = rows.select(self._star.captured_columns.names)
        flags, times = pa.repeat(deleted, rows.num_rows), pa.nulls(rows.num_rows, CAPTURED_AT_TYPE)
        return pa.table([*rows.columns, flags, rows.column(CAPTURED_AT), times], schema=self._schema)

    def _ending(self, versions: pa.Table, valid_to: pa.ChunkedArray) -> pa.Table:
        return versions.set_column(versions.num_columns - 1, self._schema.field(VALID_TO), valid_to)


def is_among(rows: pa.Table, others: pa.Table, key: Sequence[str]) -> pa.ChunkedArray:
    """Return for each row whether one of the others has its key."""
    [name, *more] = key
    if not more and pa.types.is_integer(rows.schema.field(name).type):  # twenty times as fast
        return pa.chunked_array([np.isin(rows.column(name).to_numpy(), others.column(name).to_numpy())])
    numbered = rows.select(key).append_column("number of row", pa.array(np.arange(rows.num_rows)))
    found = numbered.join(others.select(key), [*key], join_type="left semi", use_threads=False)
    mask: npt.NDArray[np.bool_] = np.zeros(rows.num_rows, bool)
    mask[found.column("number of row").to_numpy()] = True
    return pa.chunked_array([mask])
