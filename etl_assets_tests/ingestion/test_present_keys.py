"""When keys were present: ranges of key lists, against a naive model."""

import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from etl_assets.adapters.object_store import Bucket
from etl_assets.ingestion.csv_files import _SMALL_BYTES, CorruptObjectError
from etl_assets.ingestion.manifest import Capture, CapturedFile, Source, key_file_key
from etl_assets.ingestion.present_keys import FIRST_AT, LAST_AT, read_present_keys
from etl_assets.schema.columns import CAPTURED_AT_TYPE, columns, missing_as, renamed_from
from etl_assets.schema.table import Table
from etl_assets_tests.harness import NOON

Key = tuple[Any, ...]

ITEM = Table(
    name="item", description="", primary_key=("id",), columns=columns(units=pa.int32(), id=pa.int32(), note=pa.string())
)
LINE = Table(
    name="line",
    description="",
    primary_key=("code", "day", "id"),
    columns=columns(id=pa.int64(), units=pa.int32(), day=pa.date32(), code=pa.string()),
)
FULL = "FULL"
NOTHING = "NOTHING"
"""What a capture has of a table besides a list of keys: every row, or only changes."""


def write_keys(bucket: Bucket, number: int, table: Table, text: str | None, **values: Any) -> Capture:
    """Return a capture with a key list, given as CSV with a header line, or without one."""
    at = NOON + timedelta(minutes=number)
    key_files = {}
    if text is not None:
        key = key_file_key(table.name, "2024-08-22-12:00", at)
        with bucket.create(key) as new:
            new.write(text.encode())
        key_files[table.name] = CapturedFile(key, text.count("\n") - 1, new.size, new.sha256.hexdigest())
    capture = Capture(at, "2024-08-22-12:00", "7:7:", Source(1, 1, 1), None, None, {}, key_files=key_files)
    columns_of = {name: text.partition("\n")[0].split(",") for name in key_files} if text else {}
    return replace(capture, key_columns=columns_of, **values)


def write_captures(bucket: Bucket, table: Table, contents: Iterable[str | Iterable[Key]]) -> list[Capture]:
    captures = []
    for number, content in enumerate(contents):
        if isinstance(content, str):
            full: dict[str, Any] = (
                {"full_because": "asked for"} if number % 2 else {"full_tables": {table.name: "its storage changed"}}
            )
            captures.append(write_keys(bucket, number, table, None, **(full if content == FULL else {})))
        else:
            lines = [",".join(map(str, key)) for key in content]
            captures.append(write_keys(bucket, number, table, "\n".join([",".join(table.primary_key), *lines, ""])))
    return captures


def ranges(bucket: Bucket, table: Table, captures: Iterable[Capture]) -> list[tuple[Key, int, int]]:
    """Return the ranges of keys as the numbers of captures, sorted."""
    found = []
    for part in read_present_keys(bucket, table, captures):
        keys = [table.columns.field(name) for name in table.primary_key]
        assert part.schema.equals(
            pa.schema([*keys, pa.field(FIRST_AT, CAPTURED_AT_TYPE), pa.field(LAST_AT, CAPTURED_AT_TYPE)]), False
        )
        for row in part.to_pylist():
            key = tuple(str(row[name]) if name == "day" else row[name] for name in table.primary_key)
            first, last = ((row[name] - NOON) // timedelta(minutes=1) for name in (FIRST_AT, LAST_AT))
            found.append((key, first, last))
    return sorted(found)


def model(contents: Sequence[str | Iterable[Key]]) -> list[tuple[Key, int, int]]:
    """Return the ranges of keys, each key looked up in each list."""
    found = []
    keys = {key for content in contents if not isinstance(content, str) for key in content}
    for key in keys:
        latest: list[int] = []
        for number, content in enumerate(contents):
            if content == NOTHING:
                continue
            if content != FULL and key in content:
                latest.append(number)
            elif latest:
                found.append((key, latest[0], latest[-1]))
                latest = []
        if latest:
            found.append((key, latest[0], latest[-1]))
    return sorted(found)


def histories(key: st.SearchStrategy[Key]) -> st.SearchStrategy[list[str | list[Key]]]:
    keys = st.lists(key, max_size=6)  # a source without a primary key may list one twice
    return st.lists(st.one_of(keys, keys, keys, st.sampled_from([FULL, NOTHING])), max_size=8)


@settings(max_examples=100, deadline=None)
@given(histories(st.tuples(st.integers(-2, 4))))
def test_ranges_of_keys_are_those_of_a_naive_model(contents: list[str | list[Key]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        bucket = Bucket(f"file://{folder}")
        assert ranges(bucket, ITEM, iter(write_captures(bucket, ITEM, contents))) == model(contents)


@settings(max_examples=100, deadline=None)
@given(
    histories(st.tuples(st.sampled_from(["a", "b"]), st.sampled_from(["2024-01-01", "2024-01-02"]), st.integers(0, 2)))
)
def test_ranges_of_keys_of_several_columns_are_those_of_a_naive_model(contents: list[str | list[Key]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        bucket = Bucket(f"file://{folder}")
        assert ranges(bucket, LINE, write_captures(bucket, LINE, contents)) == model(contents)


@pytest.mark.parametrize("store", ["bucket_url", "s3_bucket"])
def test_many_lists_small_and_large_are_read_in_order(store: str, request: pytest.FixtureRequest) -> None:
    bucket = Bucket(request.getfixturevalue(store))
    large = _SMALL_BYTES // 8 + 1
    counts = [3, 4, *[5] * 30, large, large, 6]
    contents = [[(10_000_000 + key,) for key in range(count)] for count in counts]
    assert ranges(bucket, ITEM, write_captures(bucket, ITEM, contents))[:7] == model([each[:7] for each in contents])


def test_captures_without_lists_give_no_ranges(bucket_url: str) -> None:
    assert ranges(Bucket(bucket_url), ITEM, []) == []
    bucket = Bucket(bucket_url)
    assert ranges(bucket, ITEM, write_captures(bucket, ITEM, [FULL, NOTHING])) == []


def test_a_key_that_does_not_fit_its_declaration_is_left_out(bucket_url: str) -> None:
    bucket = Bucket(bucket_url)
    keys = "code,day,id\na,infinity,1\na,2024-01-01,2\n,2024-01-01,3\n"
    assert ranges(bucket, LINE, [write_keys(bucket, 0, LINE, keys)]) == [(("a", "2024-01-01", 2), 0, 0)]


def test_a_renamed_key_column_is_read_by_its_earlier_name(bucket_url: str) -> None:
    bucket = Bucket(bucket_url)
    captures = [write_keys(bucket, number, ITEM, f"{name}\n1\n") for number, name in enumerate(["number", "id"])]
    renamed = replace(ITEM, columns=columns(id=renamed_from("number", pa.int32())))
    assert ranges(bucket, renamed, captures) == [((1,), 0, 1)]


def test_a_list_without_a_column_of_the_key_is_left_out_unless_its_value_is_declared(bucket_url: str) -> None:
    bucket = Bucket(bucket_url)
    captures = [write_keys(bucket, 0, ITEM, "id\n1\n"), write_keys(bucket, 1, ITEM, "site,id\nx,1\n")]
    declared = replace(ITEM, primary_key=("site", "id"), columns=columns(site=pa.string(), id=pa.int32()))
    assert ranges(bucket, declared, captures) == [(("x", 1), 1, 1)]
    columns_then = columns(site=missing_as("x", pa.string()), id=pa.int32())
    assert ranges(bucket, replace(declared, columns=columns_then), captures) == [(("x", 1), 0, 1)]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("id\n1\n3\n", "holds 2 rows that differ from the 2 captured"),
        ("id\n1\n", "holds 1 rows that differ from the 2 captured"),
        ("id\n", "holds 0 rows that differ from the 2 captured"),
        ("", "holds 0 rows that differ from the 2 captured"),
        (None, "is missing, although its manifest exists"),
    ],
)
def test_a_corrupt_key_list_is_named(bucket_url: str, text: str | None, problem: str) -> None:
    bucket = Bucket(bucket_url)
    captures = write_captures(bucket, ITEM, [[(1,)], [(1,), (2,)]])
    key = captures[1].key_files["item"].key
    path = Path(f"{bucket_url.removeprefix('file://')}/{key}")
    path.unlink() if text is None else path.write_text(text)
    with pytest.raises(CorruptObjectError, match=f"{key} {problem}"):
        ranges(bucket, ITEM, captures)
