"""Renders all answers as one self-contained HTML page, which says what is missing and why.

`page.html` is the template; `page.css` and `page.js` are inlined. Its content security policy allows nothing else.
"""

from base64 import b64encode
from collections.abc import Iterable
from datetime import datetime
from decimal import Decimal
from hashlib import sha256
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from etl_assets.reports.charts import DrawnAnswer, alt_text
from etl_assets.reports.report import Answer, ReportError, Value, format_time, format_value, in_utc, is_number, label

_MAX_SHORT_LENGTH = 30
_FOLDER = Path(__file__).parent


def render_page(
    drawn_answers: Iterable[DrawnAnswer],
    faults: Iterable[ReportError],
    generated_at: datetime,
    as_of: datetime | None = None,
) -> str:
    """Return the HTML page of answers, of the latest state or as of a time. It begins with the reports at fault."""
    style, script = ((_FOLDER / name).read_text(encoding="utf-8") for name in ("page.css", "page.js"))
    return _TEMPLATES.get_template("page.html").render(
        drawn_answers=list(drawn_answers),
        faults=list(faults),
        generated_at=generated_at,
        as_of=as_of,
        style=style,
        script=script,
    )


def _sha256(text: str) -> str:
    return b64encode(sha256(text.encode()).digest()).decode()


def _column_class(column: str, answer: Answer) -> str:
    """Return the CSS class of a column, by which it is laid out and sorted."""
    values = [value for value in answer.column(column) if value is not None]
    if values and all(map(is_number, values)):
        return "number"
    return "long" if any(len(str(value)) > _MAX_SHORT_LENGTH for value in values) else "short"


def _raw(value: Value) -> str:
    """Return a value as text for sorting and CSV; empty for null."""
    if value is None:
        return ""
    if isinstance(value, datetime):
        return in_utc(value).isoformat()
    return f"{value:f}" if isinstance(value, Decimal) else str(value)


_TEMPLATES = Environment(
    loader=FileSystemLoader(_FOLDER), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
)
_TEMPLATES.globals |= {"alt_text": alt_text, "format_time": format_time, "format_value": format_value}
_TEMPLATES.filters |= {"column_class": _column_class, "label": label, "raw": _raw, "sha256": _sha256}
