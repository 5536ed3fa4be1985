"""Dagster resources for databases and object stores. Each names the environment variable that holds its URL."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import dagster as dg
from dagster_aws.s3 import S3Resource
from pydantic import PrivateAttr

from etl_assets.adapters.object_store import Bucket
from etl_assets.adapters.postgres import (
    Connection,
    DatabaseUnavailableError,
    LoginError,
    StatementRefusedError,
    connect,
)
from etl_assets.adapters.settings import EnvironmentVariableError, open_bucket, required


class DatabaseResource(dg.ConfigurableResource):  # type: ignore[type-arg]
    """A PostgreSQL database. Its URL stays in an environment variable, so no run configuration shows the password."""

    variable: str

    @contextmanager
    def connect(self) -> Iterator[Connection]:
        """Open a connection, and close it after the block.

        Raises:
            EnvironmentVariableError: the variable is not set, or is not a PostgreSQL URL, or the server refuses it.
            DatabaseUnavailableError: no server answers. The message names the variable.
        """
        url = required(self.variable)
        with ExitStack() as stack:
            try:
                connection = stack.enter_context(connect(url))
            except (ValueError, LoginError) as error:
                raise EnvironmentVariableError(self.variable, str(error)) from None
            except StatementRefusedError as error:
                raise EnvironmentVariableError(self.variable, f"is refused: {error}") from error
            except DatabaseUnavailableError as error:
                raise DatabaseUnavailableError(f"{error} ({self.variable})") from error
            yield connection


class BucketResource(dg.ConfigurableResource):  # type: ignore[type-arg]
    """A bucket, whose URL is in an environment variable. `s3` opens it if the URL is `s3://`."""

    variable: str
    s3: dg.ResourceDependency[S3Resource]
    _bucket: Bucket | None = PrivateAttr(default=None)

    def open(self) -> Bucket:
        """Return the bucket, opened once per run.

        Raises:
            EnvironmentVariableError: the variable is not set, or is not the URL of a bucket.
        """
        if self._bucket is None:
            self._bucket = open_bucket(self.variable, self.s3.get_client)
        return self._bucket
