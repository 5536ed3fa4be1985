"""The names of the environment: where the databases and buckets are. Read when needed, never at import."""

import os
from enum import StrEnum

from etl_assets.errors import PermanentError


class Variable(StrEnum):
    """An environment variable the platform reads."""

    TOTESYS_DATABASE_URL = "TOTESYS_DATABASE_URL"
    WAREHOUSE_DATABASE_URL = "WAREHOUSE_DATABASE_URL"
    INGESTION_URL = "INGESTION_URL"
    TRANSFORMATION_URL = "TRANSFORMATION_URL"
    PARTITIONS_START = "PARTITIONS_START"


class EnvironmentVariableError(PermanentError):
    """A variable is missing or malformed. Its message is one line that names it and never shows a secret."""

    def __init__(self, variable: str, problem: str) -> None:
        self.variable = variable
        self.problem = problem
        super().__init__(f"{variable} {problem}")


def required(variable: str) -> str:
    """Give the value of an environment variable.

    Raises:
        EnvironmentVariableError: it is not set, or empty.
    """
    value = os.environ.get(variable, "")
    if not value:
        raise EnvironmentVariableError(variable, "is not set (README, “The environment”, lists what it must hold)")
    return value
