from datetime import datetime, timedelta
from itertools import chain
from typing import Any

import pyarrow as pa
import pytest

from etl_assets.schema.validation import REJECTED, Rejection, ValidatedRows, rejections
from etl_assets.transformation.unchanged_rows import LatestRows
from etl_assets_tests.harness import NOON
from etl_assets_tests.pipeline import STAR

TRANSACTIONS = STAR["dim_transaction"]

Version = tuple[int, int, int | None]  # a row: when it was captured, in hours after noon, its key, and a value


def time(hour: int) -> datetime:
    return NOON + timedelta(hours=hour)


def batch(*versions: Version) -> ValidatedRows:
    rows: list[dict[str, Any]] = [
        {"captured_at": time(hour), "transaction_id": key, "transaction_type": "SALE", "sales_order_id": value}
        for hour, key, value in versions
    ]
    return ValidatedRows(pa.Table.from_pylist(rows, schema=TRANSACTIONS.captured_columns), REJECTED.empty_table())


def changed(*batches: ValidatedRows) -> list[list[Version]]:
    latest = LatestRows(TRANSACTIONS)
    return [
        [
            ((row["captured_at"] - NOON) // timedelta(hours=1), row["transaction_id"], row["sales_order_id"])
            for row in latest.changed(each).rows.to_pylist()
        ]
        for each in batches
    ]


A, B = 7, 8


@pytest.mark.parametrize("batched", [True, False], ids=["in one batch", "in a batch each"])
@pytest.mark.parametrize(
    ("values", "kept"),
    [
        ([A, A, A], [0]),
        ([A, B, A], [0, 1, 2]),
        ([A, A, B, B, A, A], [0, 2, 4]),
        ([A, None, None, A], [0, 1, 3]),
        ([None, None, A], [0, 2]),
    ],
)
def test_a_row_is_left_out_if_that_of_its_key_before_it_is_equal(
    values: list[int | None], kept: list[int], batched: bool
) -> None:
    versions = [(hour, 1, value) for hour, value in enumerate(values)]
    batches = [batch(*versions)] if batched else [batch(version) for version in versions]
    assert [*chain.from_iterable(changed(*batches))] == [versions[hour] for hour in kept]


def test_keys_are_compared_with_themselves_and_rows_keep_their_order() -> None:
    first, second = [(1, 2, A), (0, 1, A), (0, 2, B), (1, 1, B)], [(2, 3, A), (3, 2, A), (2, 1, A), (3, 1, A)]
    assert changed(batch(*first), batch(*second)) == [first, [(2, 3, A), (2, 1, A)]]


def test_a_row_after_a_capture_without_its_key_is_compared_with_the_one_before() -> None:
    assert changed(batch((0, 1, A)), batch(), batch((1, 2, A)), batch((2, 1, A))) == [[(0, 1, A)], [], [(1, 2, A)], []]


def test_a_row_equal_to_the_one_before_a_rejected_one_is_kept() -> None:
    invalid = batch((1, 1, A))
    rejection = Rejection(0, "transaction_id", "is invalid")
    rejected = rejections("dim_transaction", ("transaction_id",), invalid.rows, [rejection], 0)
    at_fault = ValidatedRows(invalid.rows.slice(0, 0), rejected)
    assert changed(batch((0, 1, A)), at_fault, batch((2, 1, A)), batch((3, 1, A))) == [[(0, 1, A)], [], [(2, 1, A)], []]
