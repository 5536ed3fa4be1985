"""Errors that no retry can fix."""

from collections.abc import Iterable


class PermanentError(Exception):
    """Bad data, a wrong setting or a broken promise: someone must act. Any other exception may be an outage."""


class SchemaMismatchError(PermanentError):
    """Live tables differ from their declarations. `problems` has one line per table and column."""

    def __init__(self, where: str, problems: Iterable[str]) -> None:
        self.problems = tuple(problems)
        super().__init__(f"{where} does not match its declaration: {'; '.join(self.problems)}")
