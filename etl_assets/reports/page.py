"""All answers on one page: a file that needs nothing beside it, and may ask for nothing.

`page.html` is its template. `page.css` and `page.js` are put into it, and are all that it lets a browser apply.
"""

from base64 import b64encode
from collections.abc import Iterable
from datetime import datetime
from decimal import Decimal
from hashlib import sha256
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from etl_assets.reports.charts import described, draw
from etl_assets.reports.declare import Answer, Value, in_utc, instant, is_number, label, shown

_LONG = 30
_HERE = Path(__file__).parent


def page(answers: Iterable[Answer], made_at: datetime) -> str:
    """Give the page of some answers, as HTML."""
    style, script = ((_HERE / name).read_text(encoding="utf-8") for name in ("page.css", "page.js"))
    return _TEMPLATES.get_template("page.html").render(
        answers=list(answers),
        made_at=made_at,
        policy=f"default-src 'none'; style-src {_hash(style)}; script-src {_hash(script)}; img-src data:; "
        "base-uri 'none'; form-action 'none'",
        style=style,
        script=script,
    )


def _hash(text: str) -> str:
    return f"'sha256-{b64encode(sha256(text.encode()).digest()).decode()}'"


def _kind(column: str, answer: Answer) -> str:
    """Tell how a column of a table is laid out and sorted."""
    there = [value for value in answer.column(column) if value is not None]
    if there and all(map(is_number, there)):
        return "number"
    return "long" if any(len(str(value)) > _LONG for value in there) else "short"


def _raw(value: Value) -> str:
    """Give a value as other programs read it, and as it sorts."""
    if value is None:
        return ""
    if isinstance(value, datetime):
        return in_utc(value).isoformat()
    return f"{value:f}" if isinstance(value, Decimal) else str(value)


_TEMPLATES = Environment(
    loader=FileSystemLoader(_HERE), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
)
_TEMPLATES.globals |= {"described": described, "draw": draw}
_TEMPLATES.filters |= {"instant": instant, "kind": _kind, "label": label, "raw": _raw, "shown": shown}
