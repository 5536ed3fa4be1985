"""Versions of rows, found capture by capture."""

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pyarrow as pa
import pytest

from etl_assets.lake.versions import Versions
from etl_assets.schema.columns import columns, optional
from etl_assets.transformation.star_table import StarTable, star_table

START = datetime(2026, 11, 26, 10)


@star_table(
    record_id="price_id",
    primary_key=("shop", "day"),
    columns=columns(shop=pa.string(), day=pa.date32(), price=optional(pa.float64())),
)
def prices(price: Any) -> Any:
    """Prices by shop and day."""
    return price


def rows(star: StarTable, *values: tuple[str, float | None], at: int) -> pa.Table:
    """Return prices of some shops on the first day, as captured some minutes after the start."""
    day, captured_at = START.date(), START + timedelta(minutes=at)
    dicts = [{"shop": shop, "day": day, "price": price, "captured_at": captured_at} for shop, price in values]
    return pa.Table.from_pylist(dicts, schema=star.captured_columns)


def minutes(time: datetime | None) -> int | None:
    return None if time is None else (time - START) // timedelta(minutes=1)


def as_tuples(versions: pa.Table) -> list[tuple[Any, ...]]:
    """Return shop, price, whether it is deleted, and validity."""
    return sorted(
        (row["shop"], row["price"], row["deleted"], minutes(row["valid_from"]), minutes(row["valid_to"]))
        for row in versions.to_pylist()
    )


@pytest.mark.parametrize("is_fact", [True, False])
def test_a_version_begins_where_a_row_differs_and_ends_with_the_next_or_a_deletion(is_fact: bool) -> None:
    star = prices if is_fact else replace(prices, record_id=None)
    first = 0 if is_fact else None
    nan = float("nan")
    versions = Versions(star)
    assert as_tuples(versions.add(rows(star, ("a", None), ("b", nan), ("c", 3), ("d", 4), at=0))) == []
    several = [rows(star, ("a", None), ("b", nan), at=at) for at in (1, 2)] + [rows(star, ("a", 1), at=3)]
    assert as_tuples(versions.add(pa.concat_tables(several))) == [("a", None, False, first, 3)]
    present = rows(star, ("a", 1), at=4).select(star.primary_key)
    ended = versions.delete(START + timedelta(minutes=4), present, {("c", str(START.date()))})
    assert [row[0] for row in as_tuples(ended)] == ["b", "d"]
    assert as_tuples(ended)[1] == ("d", 4, False, first, 4)
    again = versions.delete(START + timedelta(minutes=5), present, {("c", str(START.date()))})
    assert again.num_rows == 0
    assert as_tuples(versions.add(rows(star, ("d", 4), at=6))) == [("d", 4, True, 4, 6)]
    latest = [row for row in as_tuples(versions.latest) if row[0] != "b"]
    assert latest == [("a", 1, False, 3, None), ("c", 3, False, first, None), ("d", 4, False, 6, None)]
