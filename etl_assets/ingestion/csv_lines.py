"""Where a row is in a captured CSV object: the line that it begins in, as editors and `sed -n` count."""

import csv
import io
import sys
from collections.abc import Iterator, Mapping
from typing import Any

import pyarrow as pa

from etl_assets.adapters.object_store import Bucket
from etl_assets.ingestion.live_tables import live_name
from etl_assets.schema.table import Table


def find_line(
    bucket: Bucket, object_key: str, table: Table, key: Mapping[str, Any]
) -> tuple[int, dict[str, str]] | None:
    """Return the line of the first row of a CSV object with these values, and the row by declared name, as text.

    Line ends within quotes count. Return None if the object has no such row.

    Raises:
        FileNotFoundError: there is no such object.
    """
    with bucket.open(object_key) as stream:
        # Bytes that are not UTF-8 (SQL_ASCII) are kept, and a carriage return is no line end.
        lines = io.TextIOWrapper(stream, "utf-8", errors="surrogateescape", newline="\n")
        rows = _numbered_rows(lines)
        _, header = next(rows)
        positions = {
            column.name: header.index(name) for column in table.columns if (name := live_name(column, header)) in header
        }
        wanted = [(positions[name], table.columns.field(name).type, value) for name, value in key.items()]
        for line, row in rows:
            if all(_is(row[position], type_, value) for position, type_, value in wanted):
                return line, {name: row[position] for name, position in positions.items()}
    return None


def _numbered_rows(lines: io.TextIOWrapper) -> Iterator[tuple[int, list[str]]]:
    """Yield each row of CSV with the line that it begins in."""
    csv.field_size_limit(sys.maxsize)
    reader = csv.reader(lines)
    begins = 1
    for row in reader:
        yield begins, row
        begins = reader.line_num + 1


def _is(text: str, type_: pa.DataType, value: Any) -> bool:
    """Whether a captured text is a value. Numbers and times have several texts."""
    if text == str(value):
        return True
    if pa.types.is_string(type_) or pa.types.is_integer(type_):
        return False
    try:
        return bool(pa.array([text]).cast(type_)[0].as_py() == value)
    except pa.ArrowInvalid:
        return False
