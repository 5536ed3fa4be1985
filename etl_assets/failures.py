"""How failures reach Dagster: outages are retried, what trying again cannot mend is not."""

from collections.abc import Iterator
from contextlib import contextmanager

import dagster as dg

from etl_assets.errors import PermanentError

RETRY_OUTAGES = dg.RetryPolicy(max_retries=3, delay=2, backoff=dg.Backoff.EXPONENTIAL)


@contextmanager
def permanent_failures_not_retried() -> Iterator[None]:
    """Fail the step at once, with the error's message, on a `PermanentError` in the block."""
    try:
        yield
    except PermanentError as error:
        raise dg.Failure(description=str(error), allow_retries=False) from error
