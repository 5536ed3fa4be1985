"""Work done in threads ahead of its use: requests to a store side by side, parsing while the rows before are used."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

_REQUESTS = 10  # as many connections as a client of boto3 keeps open
_AHEAD = 2 * _REQUESTS
_END = object()

T = TypeVar("T")
Result = TypeVar("Result")


def read_ahead(items: Iterable[T]) -> Iterator[T]:
    """Yield the items. Each is produced in a thread while the one before is used: pyarrow works without the GIL."""
    iterator = iter(items)
    with ThreadPoolExecutor(1) as thread:
        future = thread.submit(next, iterator, _END)
        while (item := future.result()) is not _END:
            future = thread.submit(next, iterator, _END)
            yield item  # type: ignore[misc]


def map_ahead(function: Callable[[T], Result], items: Iterable[T]) -> Iterator[Result]:
    """Yield the result of a function for each item, in order. Some calls are made side by side, a few ahead of use."""
    futures: deque[Future[Result]] = deque()
    with ThreadPoolExecutor(_REQUESTS) as threads:
        try:
            for item in items:
                futures.append(threads.submit(function, item))
                if len(futures) > _AHEAD:
                    yield futures.popleft().result()
            while futures:
                yield futures.popleft().result()
        finally:
            threads.shutdown(cancel_futures=True)


def in_batches(items: Iterable[T], size: Callable[[T], int], limit: int) -> Iterator[list[T]]:
    """Yield consecutive items in lists whose sizes add up to a limit at most, or of one item."""
    batch: list[T] = []
    total = 0
    for item in items:
        if batch and total + size(item) > limit:
            yield batch
            batch, total = [], 0
        batch.append(item)
        total += size(item)
    if batch:
        yield batch
