"""A report is one `.sql` file: a query below a header with its title, description (`answers`), chart and units.

    -- title: Revenue by month and currency
    -- answers: Sales revenue of each month in each currency.
    --   The last month may be incomplete.
    -- chart: line x=month y=revenue series=currency
    -- units: revenue: order currency, before refunds

An indented comment line continues the line above. The chart is a `line` or a `bar` chart, or `table` for none.
`series=` draws a line or bar per value of a column, `facet=` a chart per value; bars may be `stacked=yes` and
`horizontal=yes`. A column that measures something has a `units` line of its own.
"""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from itertools import takewhile
from pathlib import Path
from typing import Any, TypeAlias, TypeGuard

from etl_assets.schema.errors import PermanentError

Value: TypeAlias = str | int | Decimal | float | date | datetime | bool | None

_KEYS = ("title", "answers", "chart", "units")
_HEADER_LINE = re.compile(rf"-- ({'|'.join(_KEYS)}): +(.+)")
_CONTINUATION = re.compile(r"\n--  +(?=.)")
_COLUMNS = ("x", "y", "series", "facet")
_FLAGS = {"line": (), "bar": ("stacked", "horizontal")}


class ReportError(PermanentError):
    """A report is missing, because its file is malformed, or its query or its chart fails.

    name: of the report.
    title: that of its header, or its name if that has none.
    problem: all that is wrong with it, on one line.
    """

    def __init__(self, name: str, *problems: str, title: str = "") -> None:
        self.name = name
        self.title = title or label(name)
        self.problem = " ".join("; ".join(problems).split())
        super().__init__(f"{name}.sql: {self.problem}")


@dataclass(frozen=True, kw_only=True)
class Chart:
    """How an answer is drawn: as a `line` or a `bar` chart, and from which columns."""

    kind: str
    x: str
    y: str
    series: str | None = None
    facet: str | None = None
    stacked: bool = False
    horizontal: bool = False

    @property
    def columns(self) -> tuple[str, ...]:
        """Its columns, of `x`, `y`, `series` and `facet`."""
        return tuple(filter(None, (self.x, self.y, self.series, self.facet)))


@dataclass(frozen=True, kw_only=True)
class Report:
    """A query with its title and description, the unit of each column that has one, and the chart, if any."""

    name: str
    title: str
    description: str
    chart: Chart | None
    units: Mapping[str, str]
    query: str


@dataclass(frozen=True, kw_only=True)
class Answer:
    """The result of a report's query, and the seconds it took.

    captured_at: the time of the latest capture it includes, UTC.
    types: the OID and the modifier of the type of each column, if it comes from PostgreSQL.

    Raises:
        ReportError: there is no column, or two have one name; one of the chart or the units is missing; or the y column
            is not numeric.
    """

    report: Report
    columns: Sequence[str]
    rows: Sequence[Sequence[Value]]
    captured_at: datetime
    types: Sequence[tuple[int, int]] = ()
    seconds: float = 0.0

    def __post_init__(self) -> None:
        if problems := [*self._problems()]:
            raise ReportError(self.report.name, *problems, title=self.report.title)

    def _problems(self) -> Iterator[str]:
        if not self.columns:
            yield "the query returns no columns"
            return
        if repeated := [name for name, count in Counter(self.columns).items() if count > 1]:
            yield f"the query returns several columns named {', '.join(repeated)}: name each differently with AS"
        chart = self.report.chart
        for key, names in (("chart", chart.columns if chart else ()), ("units", self.report.units)):
            if unknown := [name for name in names if name not in self.columns]:
                yield f"{key}: the query returns no column {', '.join(unknown)}, only {', '.join(self.columns)}"
        values = self.column(chart.y) if chart and chart.y in self.columns else ()
        if chart and not all(value is None or is_number(value) for value in values):
            yield f"chart: y={chart.y} is not a numeric column"

    def column(self, name: str) -> list[Value]:
        """Return the values of a column."""
        index = self.columns.index(name)
        return [row[index] for row in self.rows]


def is_number(value: Value) -> TypeGuard[int | float | Decimal]:
    """Whether a value is a number; booleans are not."""
    return isinstance(value, int | float | Decimal) and not isinstance(value, bool)


def label(name: str) -> str:
    """Return the name of a column as shown to readers."""
    return name.replace("_", " ")


def format_value(value: Value, *, has_unit: bool = True) -> str:
    """Return a value as shown to readers, with thousands separators except in integers without a unit (years, ids)."""
    if value is None:
        return "\N{EN DASH}"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, datetime):
        return in_utc(value).isoformat(" ", "seconds")
    if isinstance(value, Decimal):
        return f"{value:,f}"
    if isinstance(value, float) or (isinstance(value, int) and has_unit):
        return f"{value:,}"
    return str(value)


def text_table(header: Sequence[str], rows: Iterable[Sequence[Value]]) -> str:
    """Return rows as aligned text below an underlined header."""
    lines = [header, *([format_value(cell) for cell in row] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    lines.insert(1, ["─" * width for width in widths])
    return "\n".join("  ".join(map(str.ljust, line, widths)).rstrip() for line in lines)


def in_utc(time: datetime) -> datetime:
    """Return a time in UTC without time zone. A time without time zone is UTC already."""
    return time.astimezone(UTC).replace(tzinfo=None) if time.tzinfo else time


def format_time(time: datetime) -> str:
    """Return a time as shown in headings: `2 August 2024, 12:05 UTC`."""
    time = in_utc(time)
    return f"{time.day} {time:%B %Y, %H:%M} UTC"


def parse(name: str, text: str) -> Report:
    """Parse the text of a `.sql` file; `name` is the file's, without the suffix.

    Raises:
        ReportError: header lines are missing, unknown, duplicate or malformed, or there is no query.
    """
    lines = text.strip().splitlines()
    header = list(takewhile(lambda line: line.startswith("--"), lines))
    fields: dict[str, str] = {}
    units: dict[str, str] = {}
    problems = []
    for line in _CONTINUATION.sub(" ", "\n".join(header)).splitlines():
        match = _HEADER_LINE.fullmatch(line.strip())
        if not match:
            keys = ", ".join(_KEYS)
            problems.append(f"{line!r} is not a header line: write `-- key: text`; the keys are {keys}")
            continue
        key, value = match.groups()
        target = fields
        if key == "units":
            key, _, value = (part.strip() for part in value.partition(":"))
            target = units
            if not value:
                problems.append(f"units: {key!r} must be `column: unit`")
        if key in target:
            problems.append(f"{key}: declared twice")
        target[key] = value
    if missing := [key for key in _KEYS if key not in fields and key != "units"]:
        problems.append(f"{', '.join(missing)}: missing in the header")
    chart = None
    if "chart" in fields:
        try:
            chart = _parse_chart(fields["chart"])
        except ValueError as error:
            problems.append(f"chart: {error}")
    query = "\n".join(lines[len(header) :]).strip()
    if not query:
        problems.append("there is no query below the header")
    title = fields.get("title", "")
    if problems:
        raise ReportError(name, *problems, title=title)
    return Report(name=name, title=title, description=fields["answers"], chart=chart, units=units, query=query)


def _parse_chart(text: str) -> Chart | None:
    """Return the chart that a header declares, or raise a `ValueError` that says what is wrong with it."""
    kind, *options = text.split()
    if kind == "table" and not options:
        return None
    if kind not in _FLAGS:
        raise ValueError(f"{text!r} must be table alone, or {' or '.join(_FLAGS)} with options")
    flags = _FLAGS[kind]
    allowed = ", ".join([*(f"{column}=" for column in _COLUMNS), *(f"{flag}=yes" for flag in flags)])
    columns: dict[str, Any] = {}
    for option in options:
        key, _, value = option.partition("=")
        if key not in (*_COLUMNS, *flags) or not value or (key in flags and value != "yes"):
            raise ValueError(f"{option!r} is not an option of a {kind} chart; it has {allowed}")
        columns[key] = key in flags or value
    if missing := [f"{key}=" for key in ("x", "y") if key not in columns]:
        raise ValueError(f"{', '.join(missing)} missing")
    return Chart(kind=kind, **columns)


def load_reports(folder: Path = Path(__file__).parent) -> tuple[list[Report], list[ReportError]]:
    """Return the reports of a folder, this one by default, ordered by name, and what is wrong with malformed ones."""
    reports, faults = [], []
    for path in sorted(folder.glob("*.sql")):
        try:
            reports.append(parse(path.stem, path.read_text(encoding="utf-8")))
        except ReportError as fault:
            faults.append(fault)
        except UnicodeDecodeError:
            faults.append(ReportError(path.stem, "is not UTF-8 text: save it as UTF-8"))
    return reports, faults
