"""Work done ahead of its use."""

import threading
from collections.abc import Iterator
from threading import Barrier
from time import sleep

import pytest

from etl_assets.adapters.read_ahead import in_batches, map_ahead, read_ahead


def test_the_next_item_is_produced_while_one_is_used() -> None:
    used = threading.Event()

    def items() -> Iterator[int]:
        yield 1
        used.set()
        yield 2

    for item in read_ahead(items()):
        assert item == 2 or used.wait(10)


def test_items_may_be_none_and_an_error_comes_after_the_items_before_it() -> None:
    def items() -> Iterator[None]:
        yield None
        raise ZeroDivisionError

    read = read_ahead(items())
    assert next(read) is None
    with pytest.raises(ZeroDivisionError):
        next(read)


def test_results_are_in_order_although_calls_are_side_by_side() -> None:
    together = Barrier(10, timeout=10)

    def square(number: int) -> int:
        together.wait()
        sleep(0.001 * (10 - number % 10))
        return number * number

    assert list(map_ahead(square, range(30))) == [number * number for number in range(30)]


def test_only_a_few_results_are_held() -> None:
    started: list[int] = []
    results = map_ahead(started.append, range(1000))
    next(results)
    results.close()  # type: ignore[attr-defined]
    assert len(started) <= 21


def test_batches_are_as_large_as_the_limit_lets_them() -> None:
    assert list(in_batches([1, 2, 3, 9, 1, 1], int, 5)) == [[1, 2], [3], [9], [1, 1]]
    assert list(in_batches([0] * 3, int, 5)) == [[0, 0, 0]]
    assert list(in_batches([], int, 5)) == []
