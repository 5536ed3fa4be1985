"""Rows that are as in the capture before: a star table that keeps the latest version need not load them."""

from collections.abc import Iterable
from functools import reduce

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from etl_assets.schema.columns import CAPTURED_AT
from etl_assets.schema.validation import ValidatedRows
from etl_assets.transformation.star_table import StarTable


class LatestRows:
    """The latest row of each key of a star table, among the batches seen so far."""

    def __init__(self, star: StarTable) -> None:
        self._star = star
        self._known = star.captured_columns.empty_table()

    def changed(self, batch: ValidatedRows) -> ValidatedRows:
        """Add a batch of whole captures, all later than those before. Return the rows that differ from the row before.

        That is the row that the same key has in the latest earlier capture with this key. A batch with rejected rows
        is returned whole, and later ones are not compared with it: a row that follows a rejected one ends the
        rejection, even if it is as before it.
        """
        if batch.rejected.num_rows:
            self._known = self._known.slice(0, 0)
            return batch
        known = self._known.num_rows
        rows = pa.concat_tables([self._known, batch.rows])
        key = self._star.primary_key
        order = pc.sort_indices(rows, [(name, "ascending") for name in (*key, CAPTURED_AT)]).to_numpy()
        in_order = rows.take(order)
        same_key = as_before(in_order, key)
        same_row = as_before(in_order, self._star.columns.names)
        is_latest = np.append(~same_key[1:], [True] * bool(len(order))).astype(bool)
        self._known = in_order.filter(pa.array(is_latest))
        changed = np.sort(order[~(same_row)])
        return ValidatedRows(rows.take(changed[changed >= known]), batch.rejected)


def as_before(rows: pa.Table, columns: Iterable[str]) -> npt.NDArray[np.bool_]:
    """Return which rows have the same values in these columns as the row before, as PostgreSQL compares them."""
    before, after = rows.slice(0, max(rows.num_rows - 1, 0)), rows.slice(1)
    same = reduce(pc.and_, (_same(before.column(name), after.column(name)) for name in columns))
    return np.append([False] * bool(rows.num_rows), same.to_numpy()).astype(bool)


def _same(values: pa.ChunkedArray, others: pa.ChunkedArray) -> pa.ChunkedArray:
    same = pc.coalesce(pc.equal(values, others), pc.and_(pc.is_null(values), pc.is_null(others)))
    if pa.types.is_floating(values.type):
        both_nan = pc.and_(pc.is_nan(values), pc.is_nan(others))
        return pc.or_(same, pc.fill_null(both_nan, False))
    return same
