"""The rows of a star table, read from the files that count."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import Enum, auto
from itertools import chain
from typing import TYPE_CHECKING, NamedTuple, Optional

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from etl_assets.adapters.object_store import Bucket
from etl_assets.adapters.read_ahead import in_batches, read_ahead
from etl_assets.ingestion.csv_files import read_key_files
from etl_assets.ingestion.manifest import Capture, list_after, read_captures
from etl_assets.lake import duck
from etl_assets.lake.files import files_that_count
from etl_assets.lake.versions import Versions, latest_schema, version_schema
from etl_assets.schema.columns import CAPTURED_AT, DELETED
from etl_assets.schema.errors import PermanentError
from etl_assets.schema.rows import Rows
from etl_assets.schema.table import Table
from etl_assets.transformation.complete_captures import can_lose_rows, captured_key, has_list, kept_keys
from etl_assets.transformation.parquet_files import StarFile, open_star, read_rows
from etl_assets.transformation.star_table import StarTable

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection, DuckDBPyRelation

_MAX_ROWS = 200_000  # that are compared with the latest ones at once


class OtherColumnsError(PermanentError):
    """A file has other columns than its table is declared to have."""

    def __init__(self, star: StarTable, key: str, columns: Sequence[str]) -> None:
        super().__init__(
            f"{key} has other columns than {star.name} is declared with here ({', '.join(columns)}): read it with the "
            f"release that wrote it, or, if this is the one that is deployed, launch the job rebuild for {star.name}"
        )


class Shape(Enum):
    """Which versions: all; all but deletions; or the latest of each key, of a fact only if it is not deleted."""

    VERSIONS = auto()
    HISTORY = auto()
    CURRENT = auto()


class _Part(NamedTuple):
    """The rows of some consecutive captures, the last of them, and the rows that their file rejected."""

    rows: pa.Table
    capture: Capture
    rejected: pa.Table


@dataclass(frozen=True, kw_only=True)
class LakeRows(Rows):
    """Versions of the rows of a star table, as its files have them. Memory holds the latest of each key, no others.

    source: its first input.
    """

    star: StarTable
    source: Table
    shape: Shape
    ingestion: Bucket
    transformation: Bucket

    def __repr__(self) -> str:
        methods = ".to_pandas(), .to_arrow(), .to_reader(), .to_duckdb()"
        return f"<{self.shape.name.lower()} rows of {self.star.name}, read by {methods}>"

    def schema(self) -> pa.Schema:
        """Return the declared columns, `captured_at` and `deleted`; of a history `valid_from` and `valid_to`, too."""
        return latest_schema(self.star) if self.shape is Shape.CURRENT else version_schema(self.star)

    def as_of(self) -> datetime:
        """Return the time of the latest capture that counts."""
        *_, (_, captures) = self._files(read_captures(self.ingestion, list_after(self.ingestion, None)))
        return captures[-1].captured_at

    def batches(self) -> Iterator[pa.Table]:
        """Yield the rows in batches, in no particular order.

        Raises:
            NoFileError: no file has the first capture.
            OtherColumnsError: a file has other columns than are declared.
            CorruptObjectError: a list of keys is missing, or differs from its manifest.
        """
        versions = Versions(self.star)
        ended = self._fold(versions)
        if self.shape is Shape.CURRENT:
            for _ in ended:
                pass
            latest = versions.latest.select(self.schema().names)
            yield latest.filter(pc.invert(latest.column(DELETED))) if self.star.keeps_every_version else latest
            return
        for batch in chain(ended, (versions.latest for _ in range(1))):
            if batch.num_rows:
                yield batch if self.shape is Shape.VERSIONS else batch.filter(pc.invert(batch.column(DELETED)))

    def to_duckdb(self, connection: Optional["DuckDBPyConnection"] = None) -> "DuckDBPyRelation":
        """Return the rows as a relation of DuckDB, of this connection or of a new one.

        `valid_from` and `valid_to` are infinite there, as in the warehouse, not null.

        Raises:
            DuckDBMissingError: DuckDB is not installed.
        """
        relation = (connection or duck.connect()).from_arrow(self.to_arrow())
        return relation.project(duck.selected(self.schema()))

    def _fold(self, versions: Versions) -> Iterator[pa.Table]:
        """Add the rows of all captures to `versions`, oldest first. Yield the versions that have ended."""
        files = self._files(read_captures(self.ingestion, list_after(self.ingestion, None)))
        lists = self._lists(capture for _, captures in files for capture in captures)
        waiting, count = [self.star.captured_columns.empty_table()], 0
        for part in read_ahead(self._parts(files)):
            waiting.append(part.rows)
            count += part.rows.num_rows
            is_complete = self._is_complete(part.capture)
            if is_complete or count > _MAX_ROWS:
                yield versions.add(pa.concat_tables(waiting))
                waiting, count = waiting[:1], 0
            if is_complete:
                kept = kept_keys(self.star, self.source, part.rejected, part.capture.captured_at)
                present = self._present(part, lists)
                if kept is not None:
                    yield versions.delete(part.capture.captured_at, present, kept)
        yield versions.add(pa.concat_tables(waiting))

    def _files(self, captures: Iterable[Capture]) -> list[tuple[str, list[Capture]]]:
        by_time = sorted(captures, key=lambda capture: capture.captured_at)
        return files_that_count(self.transformation, self.star.name, by_time)

    def _parts(self, files: Iterable[tuple[str, list[Capture]]]) -> Iterator[_Part]:
        """Yield the rows of the captures, oldest first: those up to a complete one, or some."""
        for key, of_file in files:
            with open_star(self.transformation, key) as file:
                self._check_columns(file)
                for captures in in_batches(of_file, _count_rows, _MAX_ROWS):
                    rows = read_rows(file, [capture.captured_at for capture in captures])
                    rows = rows.select(self.star.captured_columns.names).sort_by(CAPTURED_AT)
                    times, start = rows.column(CAPTURED_AT).to_numpy(), 0
                    for capture in captures:
                        if self._is_complete(capture) or capture is captures[-1]:
                            end = int(np.searchsorted(times, np.datetime64(capture.captured_at), "right"))
                            yield _Part(rows.slice(start, end - start), capture, file.rejected)
                            start = end

    def _check_columns(self, file: StarFile) -> None:
        written = {column.name: column.type for column in file.rows.schema_arrow}
        declared = self.star.captured_columns
        if different := [column.name for column in declared if written.get(column.name) != column.type]:
            raise OtherColumnsError(self.star, file.key, different)

    def _is_complete(self, capture: Capture) -> bool:
        """Whether a capture tells which rows are there."""
        is_complete = capture.is_full(self.source.name) or has_list(self.star, self.source, capture)
        return is_complete and can_lose_rows(self.star, self.source)

    def _lists(self, captures: Iterable[Capture]) -> Iterator[tuple[datetime, pa.Table]]:
        """Yield the lists of keys of complete captures that do not have every row."""
        of_changes = (capture for capture in captures if not capture.is_full(self.source.name))
        with_list = (capture for capture in of_changes if self._is_complete(capture))
        return read_ahead(read_key_files(self.ingestion, self.source, with_list))

    def _present(self, part: _Part, lists: Iterator[tuple[datetime, pa.Table]]) -> pa.Table:
        """Return the keys that a complete capture has."""
        key, captured_at = [*self.star.primary_key], part.capture.captured_at
        captured = part.rows.filter(pc.equal(part.rows.column(CAPTURED_AT), captured_at)).select(key)
        if part.capture.is_full(self.source.name):
            return captured
        _, keys = next(lists)
        listed = keys.select(captured_key(self.star, self.source)).rename_columns(key)
        return pa.concat_tables([listed.cast(captured.schema), captured])


def _count_rows(capture: Capture) -> int:
    return sum(file.rows for file in capture.files.values())
