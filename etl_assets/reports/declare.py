"""A report: one `.sql` file, a query under a header that says what it answers and how it is drawn.

    -- title: Revenue by month and currency
    -- answers: What did we sell each month, in each currency? Before refunds;
    --   the newest month may not be over.
    -- chart: line x=month y=revenue series=currency
    -- units: revenue: money in the currency of the order

A chart is a `line`, a `bar` or a `table`, which is no drawing. `series=` gives a line or a bar to each value of a
column, `facet=` a chart; bars may be `stacked=yes` and `horizontal=yes`. `units` is said once for each column that
measures something.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import TypeAlias, TypeGuard

from etl_assets.errors import PermanentError

Value: TypeAlias = str | int | Decimal | float | date | datetime | bool | None

_HEADER_LINE = re.compile(r"-- (\w+): +(.+)")
_CONTINUED = re.compile(r"--  +(.+)")
_KEYS = ("title", "answers", "chart", "units")
_COLUMNS = ("x", "y", "series", "facet")
_FLAGS = {"line": (), "bar": ("stacked", "horizontal")}
_TABLE = "table"


class ReportError(PermanentError):
    """A report is not declared as one, or its query does not answer it."""

    def __init__(self, report: str, problem: str) -> None:
        self.report = report
        self.problem = problem
        super().__init__(f"{report}.sql: {problem}")


@dataclass(frozen=True, kw_only=True)
class Chart:
    """How an answer is drawn: a line or bars, and the columns they are of."""

    kind: str
    x: str
    y: str
    series: str | None = None
    facet: str | None = None
    stacked: bool = False
    horizontal: bool = False

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns it is drawn from."""
        return tuple(filter(None, (self.x, self.y, self.series, self.facet)))


@dataclass(frozen=True, kw_only=True)
class Report:
    """A question to the warehouse. `units` says what a column measures, by its name; a table has no `chart`."""

    name: str
    title: str
    answers: str
    chart: Chart | None
    units: Mapping[str, str]
    query: str


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What the query of a report gave. `captured_at` is the instant that the data are of, UTC.

    Raises:
        ReportError: it has not the columns that the report is drawn from, or no numbers to draw.
    """

    report: Report
    columns: Sequence[str]
    rows: Sequence[Sequence[Value]]
    captured_at: datetime

    def __post_init__(self) -> None:
        chart = self.report.chart
        for key, names in (("chart", chart.columns if chart else ()), ("units", self.report.units)):
            if unknown := [name for name in names if name not in self.columns]:
                raise ReportError(
                    self.report.name,
                    f"{key}: {', '.join(unknown)} is no column of the answer, which has {', '.join(self.columns)}",
                )
        if chart and not all(value is None or is_number(value) for value in self.column(chart.y)):
            raise ReportError(self.report.name, f"chart: y={chart.y} is not a column of numbers")

    def column(self, name: str) -> list[Value]:
        """Give the values of a column."""
        at = self.columns.index(name)
        return [row[at] for row in self.rows]


def is_number(value: Value) -> TypeGuard[int | float | Decimal]:
    """Tell whether a value is a number; true and false are none."""
    return isinstance(value, int | float | Decimal) and not isinstance(value, bool)


def label(name: str) -> str:
    """Give the name of a column as it is read."""
    return name.replace("_", " ")


def shown(value: Value, *, measured: bool = True) -> str:
    """Give a value as it is read, thousands apart; not in whole numbers that measure nothing: a year, a key."""
    if value is None:
        return "\N{EN DASH}"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, datetime):
        return in_utc(value).isoformat(" ", "seconds")
    if isinstance(value, Decimal):
        return f"{value:,f}"
    if isinstance(value, float) or (isinstance(value, int) and measured):
        return f"{value:,}"
    return str(value)


def in_utc(moment: datetime) -> datetime:
    """Give an instant in UTC, without saying so; one that says no zone is in UTC already."""
    return moment.astimezone(UTC).replace(tzinfo=None) if moment.tzinfo else moment


def instant(moment: datetime) -> str:
    """Give an instant as a heading says it."""
    moment = in_utc(moment)
    return f"{moment.day} {moment:%B %Y, %H:%M} UTC"


def parse(name: str, text: str) -> Report:
    """Read a report from the text of its `.sql` file; `name` is the file's, without its ending.

    Raises:
        ReportError: its header lacks a key, has one that is none, or one that cannot be read; or there is no query.
    """
    lines = text.strip().splitlines()
    length = next((at for at, line in enumerate(lines) if not line.startswith("--")), len(lines))
    said: dict[str, str] = {}
    units: dict[str, str] = {}
    for line in _unfolded(lines[:length]):
        found = _HEADER_LINE.fullmatch(line.strip())
        if not found or found[1] not in _KEYS:
            raise ReportError(name, f"{line!r} is not of the header: its keys are {', '.join(_KEYS)}")
        key, value = found.groups()
        into = said
        if key == "units":
            key, colon, value = (part.strip() for part in value.partition(":"))
            into = units
            if not colon or not value:
                raise ReportError(name, f"units: {key!r} is not followed by a colon and its unit")
        if key in into:
            raise ReportError(name, f"{key}: said twice")
        into[key] = value
    if missing := [key for key in _KEYS if key not in said and key != "units"]:
        raise ReportError(name, f"{', '.join(missing)}: missing in the header")
    query = "\n".join(lines[length:]).strip()
    if not query:
        raise ReportError(name, "there is no query under the header")
    return Report(
        name=name,
        title=said["title"],
        answers=said["answers"],
        chart=_chart(name, said["chart"]),
        units=units,
        query=query,
    )


def _unfolded(lines: Iterable[str]) -> list[str]:
    """Put what goes on in lines that are indented at the end of the one before them."""
    whole: list[str] = []
    for line in lines:
        if whole and (more := _CONTINUED.fullmatch(line)):
            whole[-1] += f" {more[1]}"
        else:
            whole.append(line)
    return whole


def _chart(report: str, text: str) -> Chart | None:
    kind, *options = text.split()
    if kind == _TABLE and not options:
        return None
    if kind not in _FLAGS:
        raise ReportError(report, f"chart: {text!r} is none of {', '.join(_FLAGS)} with options, or {_TABLE} alone")
    flags = _FLAGS[kind]
    columns: dict[str, str] = {}
    for option in options:
        key, _, value = option.partition("=")
        if key not in (*_COLUMNS, *flags) or not value or (key in flags and value != "yes"):
            known = (*(f"{column}=" for column in _COLUMNS), *(f"{flag}=yes" for flag in flags))
            raise ReportError(report, f"chart: {option!r} is not of a {kind}, which has {', '.join(known)}")
        columns[key] = value
    if missing := [f"{key}=" for key in ("x", "y") if key not in columns]:
        raise ReportError(report, f"chart: {', '.join(missing)} is missing")
    return Chart(
        kind=kind,
        **{key: value for key, value in columns.items() if key in _COLUMNS},
        stacked="stacked" in columns,
        horizontal="horizontal" in columns,
    )
