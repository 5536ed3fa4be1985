"""The retry policy: outages are retried, permanent errors are not."""

from collections.abc import Iterator
from contextlib import contextmanager

import dagster as dg

from etl_assets.schema.errors import PermanentError

RETRY_OUTAGES = dg.RetryPolicy(max_retries=3, delay=2, backoff=dg.Backoff.EXPONENTIAL)


@contextmanager
def permanent_errors_not_retried() -> Iterator[None]:
    """Fail the step at once, with the error's message, if the block raises a `PermanentError`."""
    try:
        yield
    except PermanentError as error:
        raise dg.Failure(description=str(error), allow_retries=False) from error
