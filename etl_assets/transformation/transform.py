"""The transformation of captures: rows of a star table from the rows of its inputs, in batches where possible."""

import json
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, TypeAlias

import pyarrow as pa
import pyarrow.compute as pc

from etl_assets.adapters.read_ahead import in_batches, read_ahead
from etl_assets.ingestion.csv_files import CapturedRows
from etl_assets.ingestion.manifest import Capture, captured_at_of
from etl_assets.schema.columns import CAPTURED_AT
from etl_assets.schema.errors import PermanentError
from etl_assets.schema.rows import PREVIEW_ROWS, Rows
from etl_assets.schema.table import Table
from etl_assets.schema.validation import REJECTED, Rejection, ValidatedRows, concat, rejections, to_pandas, validate
from etl_assets.transformation.parquet_files import (
    Clock,
    StarBatches,
    StarFile,
    StarRows,
    StartOver,
    read_distinct,
    read_rows,
)
from etl_assets.transformation.repeated_keys import CapturedKey, SeenKeys, keys_of_rejected, reject_repeated
from etl_assets.transformation.star_table import StarTable
from etl_assets.transformation.unchanged_rows import LatestRows

Inputs: TypeAlias = Mapping[str, ValidatedRows]
"""The rows that a star table is made from, by the name of their table."""

MAX_KEYS_SHOWN = 20
_MAX_FAILING_ROWS = 100
_MAX_CHUNK_ROWS = 200_000
_CALENDAR_ROWS = 1000  # what a star table may make of a capture, however few rows that has


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
    """What was observed of a star table while captures were transformed. Its checks count from this."""

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

    @property
    def difference(self) -> int:
        """The number of rows that are missing or surplus, if each row of the first input is to have one."""
        return abs(self.input_rows - self.rows - self.rejected_rows)

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
    star: StarTable,
    inputs: Mapping[str, Rows],
    partition: str,
    done: Callable[[TransformStats], None],
    *,
    rule: str | None = None,
) -> StarBatches:
    """Return the batches of a partition, which are made as they are drawn; then `done` gets what was observed.

    They are made from the captures that all inputs have: another may have been made meanwhile. `rule` is the version of
    the star table's rule (`rule_versions`), which its file tells.

    Raises:
        CorruptObjectError, NotMaterializedError: an input cannot be read; while batches are drawn, too.
        SchemaMismatchError: the function of the star table returns other columns than declared; likewise.
        TransformFailedError: the function fails for many rows; likewise.
        StartOver: while batches are drawn, rows turned out to have the key of an earlier one.
    """
    captured = next((rows for rows in inputs.values() if isinstance(rows, CapturedRows)), None)
    captures = captured.captures(partition) if captured else []
    made_from = [frozenset(capture.id for capture in captures)] if captured else []
    with ExitStack() as stack:
        made_from += [file.captures for file in _open_stars(stack, inputs, partition).values()]
    ids = frozenset.intersection(*made_from)
    captures = [capture for capture in captures if capture.id in ids]
    return _star_batches(star, inputs, partition, [_Chunk(ids, captures)], done, rule)


def transform_captures(
    star: StarTable,
    inputs: Mapping[str, Rows],
    captures: Sequence[Capture],
    done: Callable[[TransformStats], None],
    *,
    rule: str | None = None,
    only_changed: bool = False,
) -> StarBatches:
    """Return the batches of captures of any partitions, oldest first, in memory that does not grow with their number.

    Inputs that are star tables have one file, of these captures, in their folder. `done` gets what was observed of some
    whole captures at a time, each capture once. With `only_changed`, rows of a star table made from star tables are
    left out if they are as in the capture before (`LatestRows`). Otherwise this is `transform_partition`.
    """
    return _star_batches(star, inputs, None, [*_chunks(inputs, captures)], done, rule, only_changed=only_changed)


def _open_stars(
    stack: ExitStack, inputs: Mapping[str, Rows], partition: str | None, captures: Set[str] = frozenset()
) -> dict[str, StarFile]:
    """Open the files of the inputs that are star tables."""
    return {
        name: stack.enter_context(rows.open(partition, captures))
        for name, rows in inputs.items()
        if isinstance(rows, StarRows)
    }


@dataclass(frozen=True)
class _Chunk:
    """Captures that are transformed together: their ids, and themselves, unless only star tables are read."""

    ids: frozenset[str]
    captures: Sequence[Capture]


def _chunks(inputs: Mapping[str, Rows], captures: Iterable[Capture]) -> Iterator[_Chunk]:
    """Yield consecutive captures that have few enough rows of the inputs, or one of many rows."""
    reads_stars = any(isinstance(rows, StarRows) for rows in inputs.values())

    def size(capture: Capture) -> int:
        rows = sum(file.rows for name, file in capture.files.items() if reads_stars or name in inputs)
        return max(rows, _CALENDAR_ROWS) if reads_stars else rows

    for together in in_batches(captures, size, _MAX_CHUNK_ROWS):
        yield _Chunk(frozenset(capture.id for capture in together), together)


def _star_batches(
    star: StarTable,
    inputs: Mapping[str, Rows],
    partition: str | None,
    chunks: Sequence[_Chunk],
    done: Callable[[TransformStats], None],
    rule: str | None,
    *,
    only_changed: bool = False,
) -> StarBatches:
    ids = frozenset[str]().union(*(chunk.ids for chunk in chunks))
    unobserved = {*range(len(chunks))}

    def read() -> Iterator[tuple[int, Inputs | None]]:
        """Yield the inputs with the number of their chunk, and None at its end."""
        with ExitStack() as stack:
            files = _open_stars(stack, inputs, partition, ids)
            for number, chunk in enumerate(chunks):
                yield from ((number, each) for each in _read_inputs(star, inputs, files, chunk))
                yield number, None

    def results(repeated: Set[CapturedKey]) -> Iterator[ValidatedRows]:
        found = set(repeated)
        stats, latest = TransformStats(star), LatestRows(star)
        for number, batch in read_ahead(read()):
            stats.clock.lap("read")
            if batch is not None:
                result = transform(star, batch, repeated, first_position=stats.input_rows)
                stats.observe(batch, result)
                stats.clock.lap("transform")
                yield latest.changed(result) if only_changed else result
                stats.clock.lap("write")
                continue
            if stats.keys.repeated <= repeated and number in unobserved:
                unobserved.remove(number)
                done(stats)
            found |= stats.keys.repeated
            stats = TransformStats(star)
        if found > repeated:
            raise StartOver(results(found))

    return StarBatches(star.captured_columns, ids, results(frozenset()), rule)


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
    star: StarTable, inputs: Mapping[str, Rows], files: Mapping[str, StarFile], chunk: _Chunk
) -> Iterator[Inputs]:
    """Yield the inputs of a chunk: in batches, or whole if several are joined."""
    [(name, first), *others] = inputs.items()
    if not others and isinstance(first, CapturedRows):
        yield from ({name: batch} for batch in first.read(chunk.captures))
        return
    whole = {}
    for name, rows in inputs.items():
        if isinstance(rows, CapturedRows):
            read = concat(rows.read(chunk.captures), rows.table)
            whole[name] = read if rows is first else _without_repeated(rows.table, read)
        elif isinstance(rows, StarRows):
            whole[name] = ValidatedRows(_read_star(star, rows, files[name], chunk), REJECTED.empty_table())
    yield whole


def _without_repeated(table: Table, rows: ValidatedRows) -> ValidatedRows:
    """Return the rows of a joined input without those whose key is repeated: a join would repeat others."""
    seen = SeenKeys(table)
    seen.add(rows.rows)
    seen.add(keys_of_rejected(table, table.primary_key, rows.rejected))
    return reject_repeated(table, rows, seen.repeated, first_position=0)


def _read_star(star: StarTable, rows: StarRows, file: StarFile, chunk: _Chunk) -> pa.Table:
    """Return the rows of another star table; of one that references this one, its distinct keys only."""
    keys = [column for column, to in rows.table.foreign_keys.items() if to == star.name] if rows.table else []
    times = [captured_at_of(id_) for id_ in chunk.ids]
    return read_distinct(file, keys, times) if keys else read_rows(file, times)
