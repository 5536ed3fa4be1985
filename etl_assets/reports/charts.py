"""Draws answers as SVG with Vega-Lite, without network, browser or system fonts.

A drawing is 700 pixels wide, the width of images in Dagster's UI. Its colours suit colour-blind readers, on light and
dark backgrounds; lines also differ in the shape of their points. What would make a chart unreadable is left out, which
a note below the title says.
"""

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from math import isfinite
from typing import Any, TypeAlias

import vl_convert

from etl_assets.reports.report import (
    Answer,
    Chart,
    ReportError,
    Value,
    format_time,
    format_value,
    in_utc,
    is_number,
    label,
)

_Points: TypeAlias = list[dict[str, Any]]
_Spec: TypeAlias = dict[str, Any]

_WIDTH = 700
_HEIGHT = 260
_BAR_HEIGHT = 22
_MAX_SERIES = 6
_MAX_BARS = 30
_MAX_FACETS = 6
_MAX_FACET_ROWS = 3  # in one column; more facets are in two columns
_AXIS_WIDTH = 80
_MAX_LARGE_POINTS = 60
_LABEL_LIMIT = 260
_CHARACTER_WIDTH = 6
_LEGEND_CHARACTERS = 90  # per line
_TIMES = {"year": "%Y", "month": "%b", "week": "%-d %b", "date": "%-d %b", "hours": "%-d %b, %H:%M", "minutes": "%H:%M"}
_OTHER_SERIES = "all others"
_AUTOSIZE = {"type": "fit-x", "contains": "padding"}
_MAX_TEXT = 200  # characters; the renderer takes minutes to shorten very long ones
_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


@dataclass(frozen=True)
class _Theme:
    """The colours of a drawing. The defaults are those of the light theme."""

    paper: str = "#ffffff"
    ink: str = "#1a1d21"
    muted: str = "#5c636b"
    grid: str = "#e3e6e9"
    other_series: str = "#9aa1a9"
    series: tuple[str, ...] = ("#0072b2", "#d55e00", "#009e73", "#8a4fd3", "#6b3410", "#33383d")


_LIGHT = _Theme()
_DARK = _Theme(
    paper="#16191d",
    ink="#e8eaed",
    muted="#a3aab3",
    grid="#33383e",
    other_series="#6d757e",
    series=("#56b4e9", "#ff8b3d", "#3ddc97", "#c77dff", "#f0e442", "#e8eaed"),
)


@dataclass(frozen=True, kw_only=True)
class DrawnAnswer:
    """An answer and its chart as SVG, if it has one: with a title, and without in light and in dark for the page."""

    answer: Answer
    chart: str | None
    light: str | None
    dark: str | None


def draw_answers(answers: Iterable[Answer]) -> tuple[list[DrawnAnswer], list[ReportError]]:
    """Return answers with their charts, and why others cannot be drawn."""
    drawn, faults = [], []
    for answer in answers:
        try:
            light, dark = (draw(answer, with_title=False, dark=dark) for dark in (False, True))
            drawn.append(DrawnAnswer(answer=answer, chart=draw(answer), light=light, dark=dark))
        except ReportError as fault:
            faults.append(fault)
    return drawn, faults


def draw(answer: Answer, *, dark: bool = False, with_title: bool = True) -> str | None:
    """Return an answer as SVG, or None if its report has no chart. The title includes the time of the data.

    Raises:
        ReportError: it cannot be drawn.
    """
    chart = answer.report.chart
    if not chart:
        return None
    try:
        return _draw(answer, chart, _DARK if dark else _LIGHT, with_title=with_title)
    except Exception as error:
        kind = type(error).__name__  # its text may quote values
        problem = f"chart: it cannot be drawn ({kind}): draw other columns, or write `chart: table`"
        raise ReportError(answer.report.name, problem, title=answer.report.title) from error


def _draw(answer: Answer, chart: Chart, theme: _Theme, *, with_title: bool) -> str:
    notes = [f"Data as of {format_time(answer.captured_at)}"] if with_title else []
    if points := _points(answer, chart, notes):
        spec = _spec(answer, chart, points, theme)
    else:
        mark = {"type": "text", "text": "No values" if answer.rows else "No rows"}
        spec = {"data": {"values": [{}]}, "mark": mark, "width": _WIDTH, "height": 100, "autosize": _AUTOSIZE}
    if with_title or notes:
        spec["title"] = {"text": answer.report.title if with_title else "", "subtitle": notes}
    return vl_convert.vegalite_to_svg(_drawable(spec), config=_config(theme), allowed_base_urls=[])


def _drawable(spec: Any) -> Any:
    """Return a specification that can be rendered: a control character, which XML lacks, would end the process."""
    if isinstance(spec, dict):
        return {key: _drawable(value) for key, value in spec.items()}
    if isinstance(spec, list):
        return [_drawable(value) for value in spec]
    return _NOT_XML.sub("\N{REPLACEMENT CHARACTER}", spec[:_MAX_TEXT]) if isinstance(spec, str) else spec


def _points(answer: Answer, chart: Chart, notes: list[str]) -> _Points:
    """Return the points to draw, and add notes on what is left out."""
    is_ordinal = _x_type(answer, chart) == "ordinal"
    columns = {
        "x": _texts(answer, chart.x) if is_ordinal else map(_coordinate, answer.column(chart.x)),
        "y": map(_coordinate, answer.column(chart.y)),
        "series": _texts(answer, chart.series),
        "facet": _texts(answer, chart.facet),
    }
    points: _Points = [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
    drawable = [point for point in points if point["x"] is not None]
    if all(point["y"] is None for point in drawable):
        return []
    if len(drawable) < len(points):
        notes.append(f"Rows without {label(chart.x)}, not shown: {len(points) - len(drawable)}")
    if chart.facet:
        drawable = _keep_first(drawable, "facet", _MAX_FACETS, chart.facet, notes)
        notes += [f"Each {label(chart.facet)} has its own scale"] if len(_distinct(drawable, "facet")) > 1 else []
    if chart.kind == "bar":
        drawable = _keep_first(drawable, "x", _MAX_BARS, chart.x, notes)
    return _keep_largest_series(drawable, chart, notes) if chart.series else drawable


def _x_type(answer: Answer, chart: Chart) -> str:
    """Return the type of the x axis in Vega-Lite: a time scale, a number scale, or one place per category."""
    values = [value for value in answer.column(chart.x) if value is not None]
    if chart.kind == "bar":
        return "ordinal"
    if all(isinstance(value, date) for value in values):
        return "temporal"
    return "quantitative" if all(map(is_number, values)) else "ordinal"


def _coordinate(value: Value) -> float | None:
    """Return a position on a scale; of times in milliseconds since 1970."""
    if isinstance(value, date):
        utc = in_utc(value) if isinstance(value, datetime) else datetime.combine(value, time())
        return utc.replace(tzinfo=UTC).timestamp() * 1000
    return float(value) if is_number(value) and isfinite(value) else None


def _texts(answer: Answer, column: str | None) -> list[str]:
    """Return the values of a column as text; months (`Aug 2024`) if all are dates on the first of a month."""
    if column is None:
        return [""] * len(answer.rows)
    values = answer.column(column)
    if all(isinstance(value, date) and not isinstance(value, datetime) and value.day == 1 for value in values):
        return [f"{value:%b %Y}" for value in values]
    return [format_value(value, has_unit=column in answer.report.units) for value in values]


def _keep_first(points: _Points, key: str, limit: int, column: str, notes: list[str]) -> _Points:
    values = list(dict.fromkeys(point[key] for point in points))
    if len(values) <= limit:
        return points
    notes.append(f"First {limit} of {len(values)} values of {label(column)}")
    return [point for point in points if point[key] in values[:limit]]


def _keep_largest_series(points: _Points, chart: Chart, notes: list[str]) -> _Points:
    """Keep the largest series. In stacked bars the others become one series; elsewhere they are left out."""
    sizes: Counter[str] = Counter()
    for point in points:
        sizes[point["series"]] += abs(point["y"] or 0)
    if len(sizes) <= _MAX_SERIES:
        return points
    largest = {name for name, _ in sizes.most_common(_MAX_SERIES)}
    notes.append(f"Largest {_MAX_SERIES} of {len(sizes)} values of {label(str(chart.series))}")
    if chart.stacked:
        return [point if point["series"] in largest else point | {"series": _OTHER_SERIES} for point in points]
    return [point for point in points if point["series"] in largest]


def _spec(answer: Answer, chart: Chart, points: _Points, theme: _Theme) -> _Spec:
    facets = len({point["facet"] for point in points})
    columns = 1 if facets <= _MAX_FACET_ROWS else 2
    width = _WIDTH // columns - _AXIS_WIDTH if chart.facet else _WIDTH
    dimension = _dimension(answer, chart, points, width)
    integers = all(point["y"] is None or point["y"].is_integer() for point in points)
    measure = {
        "field": "y",
        "type": "quantitative",
        "title": _axis_title(answer, chart.y),
        "axis": {"tickCount": 5, "tickMinStep": 1 if integers else None},
    } | ({"aggregate": "sum"} if chart.stacked else {"stack": None})
    encoding: _Spec = {"x": measure, "y": dimension} if chart.horizontal else {"x": dimension, "y": measure}
    bars = 1
    if chart.series:
        names = _distinct(points, "series")
        colours = [theme.other_series if name == _OTHER_SERIES else theme.series[i] for i, name in enumerate(names)]
        legend_columns = max(1, _LEGEND_CHARACTERS // (max(map(len, names)) + 4))
        by_series: _Spec = {"field": "series", "title": label(chart.series), "legend": {"columns": legend_columns}}
        encoding["color"] = by_series | {"scale": {"domain": names, "range": colours}}
        if chart.kind == "line":
            encoding["shape"] = by_series | {"scale": {"domain": names}}
        elif chart.stacked:
            encoding["order"] = {"field": "rank"}
            points = [point | {"rank": names.index(point["series"])} for point in points]
        else:
            encoding["yOffset" if chart.horizontal else "xOffset"] = {"field": "series", "sort": None}
            bars = len(names)
    dense = len({point["x"] for point in points}) > _MAX_LARGE_POINTS
    height = len(_distinct(points, "x")) * (_BAR_HEIGHT * bars + 6) if chart.horizontal else _HEIGHT // min(facets, 2)
    mark = {"type": "line", "point": {"size": 6 if dense else 36}} if chart.kind == "line" else "bar"
    spec: _Spec = {"mark": mark, "encoding": encoding, "width": width, "height": height}
    data = {"data": {"values": points}}
    if not chart.facet:
        return data | spec | {"autosize": _AUTOSIZE}
    return data | {
        "facet": {"field": "facet", "type": "nominal", "title": None, "sort": _distinct(points, "facet")},
        "columns": columns,
        "spec": spec,
        "resolve": {"scale": {"x" if chart.horizontal else "y": "independent"}},
    }


def _dimension(answer: Answer, chart: Chart, points: _Points, width: int) -> _Spec:
    """Return the encoding of the x column."""
    x_type = _x_type(answer, chart)
    dimension = {"field": "x", "type": x_type, "title": _axis_title(answer, chart.x)}
    if x_type == "quantitative":
        return dimension | {"scale": {"zero": False}}
    if x_type == "temporal":
        return dimension | {"scale": {"type": "utc"}, "axis": {"format": _TIMES}}
    names = _distinct(points, "x")
    labels_fit = chart.horizontal or (max(map(len, names)) + 2) * len(names) < width // _CHARACTER_WIDTH
    return dimension | {"sort": None, "axis": {"labelAngle": 0 if labels_fit else -40}}


def _distinct(points: _Points, key: str) -> list[str]:
    """Return the distinct values in the order of the answer, with `all others` last."""
    return sorted(dict.fromkeys(point[key] for point in points), key=lambda value: value == _OTHER_SERIES)


def _axis_title(answer: Answer, column: str) -> str:
    unit = answer.report.units.get(column)
    return f"{label(column)} ({unit})" if unit else label(column)


def _config(theme: _Theme) -> _Spec:
    return {
        "aria": False,  # screen readers get `alt_text` instead of every mark
        "font": "Helvetica, Arial, Liberation Sans, sans-serif",  # metric-compatible: the same widths in every browser
        "background": theme.paper,
        "padding": 8,
        "numberFormat": ",~f",
        "view": {"stroke": None},
        "style": {
            "guide-label": {"fill": theme.ink, "fontSize": 12},
            "guide-title": {"fill": theme.muted, "fontSize": 12, "fontWeight": "normal"},
            "group-title": {"fill": theme.ink, "fontSize": 16},
            "group-subtitle": {"fill": theme.muted},
        },
        "title": {"anchor": "start", "offset": 14, "subtitlePadding": 5},
        "axis": {
            "domainColor": theme.muted,
            "gridColor": {"condition": {"test": "datum.value === 0", "value": theme.muted}, "value": theme.grid},
            "labelLimit": _LABEL_LIMIT,
            "labelPadding": 5,
            "ticks": False,
            "titleLimit": _WIDTH,
        },
        "axisX": {"titlePadding": 8},
        "axisY": {"titleAlign": "left", "titleAngle": 0, "titleX": 0, "titleY": -12},
        "axisQuantitative": {"domain": False},
        "axisTemporal": {"grid": False},
        "legend": {"orient": "top", "labelLimit": _LABEL_LIMIT, "titleOrient": "left", "symbolSize": 70, "offset": 32},
        "header": {"labelFontSize": 13, "labelFontWeight": "bold", "labelAnchor": "start"},
        "mark": {"color": theme.series[0]},
        "line": {"strokeWidth": 2},
        "text": {"color": theme.muted, "fontSize": 16},
        "bar": {"discreteBandSize": {"band": 0.8}},
    }


def alt_text(chart: Chart) -> str:
    """Return what a chart shows, for screen readers."""
    split = "".join(f", per {label(column)}" for column in (chart.series, chart.facet) if column)
    return f"{chart.kind.title()} chart: {label(chart.y)} by {label(chart.x)}{split}. The table below has the data."
