"""The problems that are open and the messages that are not sent yet, kept in the sensor's cursor."""

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

CRITICAL = "CRITICAL"
WARNING = "WARNING"
INFO = "INFO"
LOGGER = logging.getLogger("etl_assets.alerts")

_AFTER_EVERY_PARTITION = "~"  # in sort order
_SUBJECT_LENGTH = 100  # Amazon SNS API reference, Publish


class ProblemKind(StrEnum):
    """What failed. A new kind also needs a function in `monitor.py` that evaluates it."""

    STEP = "step"
    JOB = "job"
    CHECK = "check"
    FRESHNESS = "freshness"
    SENSOR = "sensor"
    SCHEDULE = "schedule"


@dataclass(frozen=True)
class ProblemKey:
    """The identity of a problem, the same while it lasts. Its text is for messages only: no code parses it.

    name: what failed.
    stage: of the asset, for a check.
    manual_partitions: of the run, if a person launched it. Automated runs do not open or resolve such a problem.
    """

    kind: ProblemKind
    name: str = ""
    stage: str = ""
    manual_partitions: str | None = None

    def __str__(self) -> str:
        run = "" if self.manual_partitions is None else f", manual run {self.manual_partitions}"
        return f"{self.kind} {self.name}{run}".rstrip()


@dataclass(frozen=True, kw_only=True)
class Problem:
    """Something that failed.

    summary: one line, which people read first.
    details: more about it, by name; messages leave out what is empty.
    severity: `CRITICAL` if someone must act, `WARNING` if someone may have to.
    partitions: those in which it occurred and is not resolved. It is resolved when none is left.
    """

    key: ProblemKey
    summary: str
    details: Mapping[str, str] = field(default_factory=dict)
    severity: str = CRITICAL
    partitions: Sequence[str] = ("",)


class MessageState(StrEnum):
    """Whether a problem has opened or is resolved; or that a step succeeded, which only hooks report."""

    OPEN = "open"
    RECOVERED = "recovered"
    SUCCEEDED = "succeeded"


@dataclass(frozen=True, kw_only=True)
class Message:
    """A message about a problem, or about a step that succeeded."""

    problem: Problem
    state: MessageState
    at: str = field(default_factory=lambda: f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC")

    @property
    def subject(self) -> str:
        """One line of at most 100 printable ASCII characters, as SNS requires."""
        recovered = "recovered: " if self.state == MessageState.RECOVERED else ""
        line = f"totesys ETL: {recovered}{self.problem.summary}"
        printable = " ".join(line.split()).encode("ascii", "replace").decode()
        return printable if len(printable) <= _SUBJECT_LENGTH else f"{printable[: _SUBJECT_LENGTH - 3]}..."

    @property
    def body(self) -> str:
        """The summary, then one line per detail."""
        head = f"{'Recovered: ' if self.state == MessageState.RECOVERED else ''}{self.problem.summary}"
        details = (f"{name}: {value}" for name, value in self._details.items())
        return "\n".join([head, *details, f"at: {self.at}"])

    @property
    def as_json(self) -> str:
        """The message for machines."""
        fields = {
            "state": self.state,
            "problem": str(self.problem.key),
            "severity": self.problem.severity,
            "summary": self.problem.summary,
            "at": self.at,
        }
        return json.dumps(fields | self._details)

    @property
    def _details(self) -> dict[str, str]:
        return {name: value for name, value in self.problem.details.items() if value}

    def log(self) -> None:
        """Write the message to the log: an open problem with its severity, everything else as information."""
        level = self.problem.severity if self.state == MessageState.OPEN else INFO
        alert = {"alert": json.loads(self.as_json)}
        LOGGER.log(logging.getLevelNamesMapping()[level], f"totesys ETL: {self.body}", extra=alert)


@dataclass
class AlertState:
    """What an evaluation keeps for the next one.

    evaluated_until: the time of the latest evaluation; None before the first one.
    seen_run_ids: the runs in that list that are already evaluated.
    problems: the open problems.
    unsent: the messages that SNS has not accepted.
    """

    evaluated_until: datetime | None = None
    seen_run_ids: list[str] = field(default_factory=list)
    problems: dict[ProblemKey, Problem] = field(default_factory=dict)
    unsent: list[Message] = field(default_factory=list)

    def to_json(self) -> str:
        """Return the cursor."""
        fields = {**vars(self), "problems": list(self.problems.values())}
        return json.dumps(fields, default=lambda value: str(value) if isinstance(value, datetime) else vars(value))

    @classmethod
    def from_json(cls, text: str) -> "AlertState":
        """Return the state of a cursor."""
        state = json.loads(text)
        if "began" in state:
            # The format in which problem keys were strings. Problems that persist are reported a second time.
            return cls(datetime.fromisoformat(state["since"]), state["told"])
        problems = [_problem(values) for values in state["problems"]]
        return cls(
            evaluated_until=datetime.fromisoformat(state["evaluated_until"]),
            seen_run_ids=state["seen_run_ids"],
            problems={problem.key: problem for problem in problems},
            unsent=[_message(values) for values in state["unsent"]],
        )

    def open_problem(self, problem: Problem) -> None:
        """Record a problem. Add a message if it is new, or has become critical."""
        known = self.problems.get(problem.key)
        partitions = sorted({*problem.partitions, *(known.partitions if known else ())})
        self.problems[problem.key] = problem = replace(problem, partitions=partitions)
        if known is None or (known.severity, problem.severity) == (WARNING, CRITICAL):
            self.unsent.append(Message(problem=problem, state=MessageState.OPEN))

    def resolve(self, key: ProblemKey, first: str = "", last: str = _AFTER_EVERY_PARTITION) -> None:
        """Resolve a problem in a range of partitions, if it is open. Add a message if no other partition is left."""
        if problem := self.problems.get(key):
            partitions = [partition for partition in problem.partitions if not first <= partition <= last]
            self.problems[key] = replace(problem, partitions=partitions)
            if not partitions:
                self.unsent.append(Message(problem=self.problems.pop(key), state=MessageState.RECOVERED))


def _problem(values: dict[str, Any]) -> Problem:
    kind = ProblemKind(values["key"]["kind"])
    return Problem(**values | {"key": ProblemKey(**values["key"] | {"kind": kind})})


def _message(values: dict[str, Any]) -> Message:
    # Version 0.1.0 wrote `recovered` instead of `state`.
    state = values.get("state") or ("recovered" if values["recovered"] else "open")
    return Message(problem=_problem(values["problem"]), state=MessageState(state), at=values["at"])
