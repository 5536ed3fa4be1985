"""The transformation of one partition: rows of a star table from the rows of its inputs, in batches where possible."""

import json
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping, Set
from itertools import islice
from pathlib import Path
from typing import Any, TypeAlias

import pyarrow as pa
import pyarrow.compute as pc

from etl_assets.ingestion.csv_files import CapturedRows
from etl_assets.ingestion.manifest import captured_at_of
from etl_assets.schema.columns import CAPTURED_AT, CAPTURED_AT_TYPE
from etl_assets.schema.errors import PermanentError
from etl_assets.schema.rows import PREVIEW_ROWS, Rows
from etl_assets.schema.validation import REJECTED, Rejection, ValidatedRows, concat, rejections, to_pandas, validate
from etl_assets.transformation.parquet_files import Clock, StarBatches, StarRows, StartOver, read_distinct
from etl_assets.transformation.repeated_keys import CapturedKey, SeenKeys, keys_of_rejected, reject_repeated
from etl_assets.transformation.star_table import StarTable

Inputs: TypeAlias = Mapping[str, ValidatedRows]
"""The rows that a star table is made from, by the name of their table."""

MAX_KEYS_SHOWN = 20
_MAX_FAILING_ROWS = 100


class TransformFailedError(PermanentError):
    """The function of a star table fails for too many rows: it is wrong, not they.

    The message has no text of the function's exception, because that may quote personal data.
    """

    def __init__(self, star: StarTable, failure: str) -> None:
        super().__init__(
            f"{failure}, and not for a few rows only: correct {star.name} and deploy it. Nothing is lost: the captures "
            "are kept, and catch_up loads them"
        )


class TransformStats:
    """What was observed of a star table while a partition of it was transformed. Its checks count from this."""

    def __init__(self, star: StarTable) -> None:
        self.clock = Clock()
        self.keys = SeenKeys(star)
        self.rows = 0
        self.rejected = REJECTED.empty_table()
        self.input_rows = 0  # of the first input, rejected ones included
        self.rejected_rows = 0  # of the first input or made of it; `rejected` has one row per value at fault
        self.lost_keys: list[Any] = []  # the first, of rows of the first input of which nothing was made
        self.first_rows: list[dict[str, Any]] = []
        self._star = star

    def observe(self, inputs: Inputs, result: ValidatedRows) -> None:
        """Add a batch."""
        name, first = next(iter(inputs.items()))
        rows, source_key = result.rows, self._star.source_key(first.rows.column_names)
        self.input_rows += first.rows.num_rows + _count_rows(first.rejected, name)
        self.rows += rows.num_rows
        is_lossy = first.rows.num_rows > rows.num_rows + _count_rows(result.rejected, self._star.name)
        if self._star.keeps_every_version and source_key and is_lossy:
            self._observe_lost(first.rows.select(source_key), result)
        self.keys.add(rows)
        if source_key and first.rejected.num_rows:
            self.keys.add(keys_of_rejected(self._star, source_key, first.rejected))
        self.rejected = pa.concat_tables([self.rejected, result.rejected])
        self.rejected_rows += _count_rows(result.rejected, name, self._star.name)
        self.first_rows += rows.slice(0, PREVIEW_ROWS - len(self.first_rows)).to_pylist()

    def _observe_lost(self, keys: pa.Table, result: ValidatedRows) -> None:
        rejected = result.rejected.filter(pc.equal(result.rejected.column("table"), self._star.name))
        names = dict(zip(keys.column_names, self._star.primary_key, strict=True))
        made = [json.dumps(key, default=str) for key in result.rows.select(self._star.primary_key).to_pylist()]
        found = {*made, *rejected.column("key").to_pylist()}
        expected = (json.dumps(key, default=str) for key in keys.rename_columns(names).to_pylist())
        lost = (json.loads(key) for key in expected if key not in found)
        self.lost_keys += islice(lost, MAX_KEYS_SHOWN - len(self.lost_keys))


def _count_rows(rejected: pa.Table, *tables: str) -> int:
    of_tables = rejected.filter(pc.is_in(rejected.column("table"), pa.array(tables)))
    return int(of_tables.group_by([CAPTURED_AT, "table", "position"]).aggregate([]).num_rows)


def transform_partition(
    star: StarTable, inputs: Mapping[str, Rows], partition: str, done: Callable[[TransformStats], None]
) -> StarBatches:
    """Return the batches of a partition, which are made as they are drawn; then `done` gets what was observed.

    Raises:
        CorruptObjectError, NotMaterializedError: an input cannot be read; while batches are drawn, too.
        SchemaMismatchError: the function of the star table returns other columns than declared; likewise.
        TransformFailedError: the function fails for many rows; likewise.
        StartOver: while batches are drawn, rows turned out to have the key of an earlier one.
    """
    captures, read = _read_inputs(star, inputs, partition)

    def results(repeated: Set[CapturedKey]) -> Iterator[ValidatedRows]:
        stats = TransformStats(star)
        for batch in read():
            stats.clock.lap("read")
            result = transform(star, batch, repeated, first_position=stats.input_rows)
            stats.observe(batch, result)
            stats.clock.lap("transform")
            yield result
            stats.clock.lap("write")
        stats.clock.lap("read")
        if stats.keys.repeated - repeated:
            raise StartOver(results(repeated | stats.keys.repeated))
        done(stats)

    return StarBatches(star.captured_columns, captures, results(frozenset()))


def transform(
    star: StarTable, inputs: Inputs, repeated: Set[CapturedKey] = frozenset(), *, first_position: int = 0
) -> ValidatedRows:
    """Return the rows of a star table made from its inputs, with all that was rejected on the way.

    Rows with a `repeated` key are rejected, and so are a few rows for which the function fails. `first_position` is
    the number of rows that were made before these.

    Raises:
        SchemaMismatchError: the function returns other columns than declared.
        TransformFailedError: the function fails for many rows.
    """
    failing: list[pa.Table] = []
    made = concat(_make(star, inputs, first_position, failing), star)
    result = reject_repeated(star, made, repeated, first_position)
    rejected = [*(rows.rejected for rows in inputs.values()), *failing, result.rejected]
    return ValidatedRows(result.rows, pa.concat_tables(rejected))


def _make(star: StarTable, inputs: Inputs, position: int, failing: list[pa.Table]) -> Iterator[ValidatedRows]:
    """Yield the rows that the function makes. Rows of the first input for which it fails are added to `failing`."""
    try:
        frame = star(**{name: to_pandas(rows.rows) for name, rows in inputs.items()})
        made = pa.Table.from_pandas(frame, preserve_index=False)
    except (PermanentError, OSError, MemoryError):
        raise
    except Exception as error:  # noqa: BLE001 (of any kind: a row may be at fault)
        failure = _failure(star, error)
    else:
        yield validate(star, made, position)
        return
    name, first = next(iter(inputs.items()))
    key = star.source_key(first.rows.column_names)
    if not key or not first.rows.num_rows:
        raise TransformFailedError(star, failure)
    if first.rows.num_rows == 1:
        row = first.rows.rename_columns(dict(zip(key, star.primary_key, strict=True)))
        rejection = Rejection(0, star.primary_key[0], failure)
        failing.append(rejections(star.name, star.primary_key, row, [rejection], position))
        if len(failing) > _MAX_FAILING_ROWS:
            raise TransformFailedError(star, failure)
        return
    half = first.rows.num_rows // 2
    for start, rows in ((0, first.rows.slice(0, half)), (half, first.rows.slice(half))):
        part = {**inputs, name: ValidatedRows(rows, first.rejected)}
        yield from _make(star, part, position + start, failing)


def _failure(star: StarTable, error: Exception) -> str:
    """Return the type and the place of an exception, not its text, which may quote personal data."""
    file = star.transform.__code__.co_filename
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == file]
    where = f" in line {lines[-1]} of {Path(file).name}" if lines else ""
    return f"{star.name} raises {type(error).__name__}{where}"


def _read_inputs(
    star: StarTable, inputs: Mapping[str, Rows], partition: str
) -> tuple[frozenset[str], Callable[[], Iterable[Inputs]]]:
    """Return the captures of a partition, and what reads the inputs: in batches, or whole if several are joined."""
    [(name, first), *others] = inputs.items()
    if not others and isinstance(first, CapturedRows):
        captures = first.captures(partition)
        return frozenset(capture.id for capture in captures), lambda: ({name: batch} for batch in first.read(captures))
    captures_in_all, whole = align({name: _read_whole(star, rows, partition) for name, rows in inputs.items()})
    joined = {name: _without_repeated(inputs[name], rows) for name, rows in whole.items() if name != next(iter(inputs))}
    return captures_in_all, lambda: [{**whole, **joined}]


def _without_repeated(source: Rows, rows: ValidatedRows) -> ValidatedRows:
    """Return the rows of a joined input without those whose key is repeated: a join would repeat others."""
    if not isinstance(source, CapturedRows):
        return rows
    seen = SeenKeys(source.table)
    seen.add(rows.rows)
    seen.add(keys_of_rejected(source.table, source.table.primary_key, rows.rejected))
    return reject_repeated(source.table, rows, seen.repeated, first_position=0)


def _read_whole(star: StarTable, rows: Rows, partition: str) -> tuple[frozenset[str], ValidatedRows]:
    """Return the captures and rows of an input; of a star table that references this one, its distinct keys only."""
    if isinstance(rows, CapturedRows):
        captures = rows.captures(partition)
        return frozenset(capture.id for capture in captures), concat(rows.read(captures), rows.table)
    assert isinstance(rows, StarRows) and rows.table
    keys = [column for column, to in rows.table.foreign_keys.items() if to == star.name]
    with rows.open(partition) as file:
        found = read_distinct(file, [*keys, CAPTURED_AT]) if keys else file.rows.read(use_threads=False)
        return file.captures, ValidatedRows(found, REJECTED.empty_table())


def align(inputs: Mapping[str, tuple[frozenset[str], ValidatedRows]]) -> tuple[frozenset[str], Inputs]:
    """Return the captures that all inputs hold, and their rows: another may have been made while they were read."""
    captures = frozenset.intersection(*(of_input for of_input, _ in inputs.values()))
    times = pa.array([captured_at_of(capture) for capture in captures], CAPTURED_AT_TYPE)

    def of_captures(rows: pa.Table) -> pa.Table:
        return rows.filter(pc.is_in(rows.column(CAPTURED_AT), times))

    return captures, {
        name: rows if of_input == captures else ValidatedRows(of_captures(rows.rows), of_captures(rows.rejected))
        for name, (of_input, rows) in inputs.items()
    }
