"""The checks of a preflight: what was looked at, what was found, and what to do about it."""

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum

from botocore.exceptions import NoCredentialsError

from etl_assets.reports.status import UNREADABLE
from etl_assets.schema.errors import PermanentError

# What to do about errors of others, which do not say it.
_REMEDIES: Mapping[type[Exception], str] = {
    PermissionError: "let this user read and write there, or correct the URL",
    NoCredentialsError: "give them as to any AWS SDK, AWS_PROFILE for example (see docs/configuration.md)",
}


class Outcome(StrEnum):
    """How a check ended. What is `not set` is not needed."""

    OK = "ok"
    FAILED = "failed"
    NOT_SET = "not set"
    NOT_CHECKED = "not checked"


@dataclass(frozen=True)
class Check:
    """A check: what was looked at, how it ended, and what was found; of a failure, the reason and what to do."""

    name: str
    outcome: Outcome
    found: str


class PreflightError(PermanentError):
    """Something that the platform needs is missing. The message says what to do."""


class NotSetError(Exception):
    """What a check is about is not set up, and need not be. The message says what that means."""


class Preflight:
    """The checks that have been made. Each is made whatever the others say, unless it needs them."""

    def __init__(self) -> None:
        self.checks: list[Check] = []

    def check(self, name: str, look: Callable[[], str], needs: str | None = None) -> None:
        """Look at something, unless the check that it `needs` has not succeeded, and keep what was found.

        `look` returns what it found, and raises an error that says what to do.
        """
        if needs and self._outcome(needs) != Outcome.OK:
            self._add(name, Outcome.NOT_CHECKED, f"needs {needs}")
            return
        try:
            self._add(name, Outcome.OK, look())
        except NotSetError as reason:
            self._add(name, Outcome.NOT_SET, str(reason))
        except UNREADABLE as error:
            remedies = (remedy for kind, remedy in _REMEDIES.items() if isinstance(error, kind))
            self._add(name, Outcome.FAILED, ": ".join([str(error), *remedies]))

    def leave(self, name: str, why: str) -> None:
        """Keep that something was not looked at."""
        self._add(name, Outcome.NOT_CHECKED, why)

    @property
    def failed(self) -> bool:
        """Whether a check has failed."""
        return any(check.outcome == Outcome.FAILED for check in self.checks)

    def as_text(self) -> str:
        """Return one line per check."""
        widths = [max(len(text) for text in column) for column in zip(*self._columns, strict=True)]
        return "\n".join(
            f"{outcome:<{widths[0]}}  {name:<{widths[1]}}  {check.found}"
            for check, (outcome, name) in zip(self.checks, self._columns, strict=True)
        )

    def as_json(self) -> str:
        """Return the checks as JSON."""
        return json.dumps({"failed": self.failed, "checks": [asdict(check) for check in self.checks]}, indent=1)

    @property
    def _columns(self) -> list[tuple[str, str]]:
        return [(check.outcome, check.name) for check in self.checks]

    def _outcome(self, name: str) -> Outcome:
        [outcome] = [check.outcome for check in self.checks if check.name == name]
        return outcome

    def _add(self, name: str, outcome: Outcome, found: str) -> None:
        self.checks.append(Check(name, outcome, " ".join(found.split())))
