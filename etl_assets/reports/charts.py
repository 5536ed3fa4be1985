"""Answers, drawn: SVG by Vega-Lite, which needs no network, no browser and no fonts of the machine.

A drawing is 700 wide, what Dagster's UI gives a picture. Its colours are told apart by the colour-blind, on white and
on black; lines by the shape of their points too. What would not be readable is left out, and the drawing says so.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, time
from math import isfinite
from typing import Any, TypeAlias

import vl_convert

from etl_assets.reports.declare import Answer, Chart, Value, in_utc, instant, is_number, label, shown

_Points: TypeAlias = list[dict[str, Any]]
_Spec: TypeAlias = dict[str, Any]

_WIDTH = 700
_HEIGHT = 260
_BAR = 22
_MOST_SERIES = 6
_MOST_BARS = 30
_MOST_FACETS = 6
_ROWS = 3  # charts of a facet below each other; more lie in two columns
_MARGIN = 80
_DENSE = 60
_LONGEST = 260
_LETTER = 6
_LETTERS = 90  # in a line of the legend
_NUMBERS = ",~f"
_TIMES = {"year": "%Y", "month": "%b", "week": "%-d %b", "date": "%-d %b", "hours": "%-d %b, %H:%M", "minutes": "%H:%M"}
_OTHERS = "all others"
_FONT = "Helvetica, Arial, Liberation Sans, sans-serif"  # letters of one width: what fits here fits in every browser
_EPOCH = datetime(1970, 1, 1)


@dataclass(frozen=True)
class _Theme:
    paper: str
    ink: str
    muted: str
    grid: str
    others: str
    series: tuple[str, ...]


_LIGHT = _Theme(
    paper="#ffffff",
    ink="#1a1d21",
    muted="#5c636b",
    grid="#e3e6e9",
    others="#9aa1a9",
    series=("#0072b2", "#d55e00", "#009e73", "#8a4fd3", "#6b3410", "#33383d"),
)
_DARK = _Theme(
    paper="#16191d",
    ink="#e8eaed",
    muted="#a3aab3",
    grid="#33383e",
    others="#6d757e",
    series=("#56b4e9", "#ff8b3d", "#3ddc97", "#c77dff", "#f0e442", "#e8eaed"),
)


def draw(answer: Answer, *, dark: bool = False, titled: bool = True) -> str | None:
    """Draw an answer as SVG; nothing if its report is a table. `titled` where nothing beside it says what it is."""
    chart = answer.report.chart
    if not chart:
        return None
    theme = _DARK if dark else _LIGHT
    notes = [f"Data of {instant(answer.captured_at)}"] if titled else []
    points = _points(answer, chart, notes)
    spec = _spec(answer, chart, points, theme) if points else _empty("No values" if answer.rows else "No rows")
    if titled or notes:
        spec["title"] = {"text": answer.report.title if titled else "", "subtitle": notes}
    return vl_convert.vegalite_to_svg(spec, config=_config(theme), allowed_base_urls=[])


def png(drawing: str) -> bytes:
    """Give a drawing as PNG, twice as wide: sharp on fine screens and on paper."""
    return vl_convert.svg_to_png(drawing, scale=2)


def _points(answer: Answer, chart: Chart, notes: list[str]) -> _Points:
    """Give what is drawn of an answer; note what is not."""
    along = answer.column(chart.x)
    points: _Points = [
        {"x": x, "y": _number(y), "series": series, "facet": facet}
        for x, y, series, facet in zip(
            map(_number, along) if _is_scale(chart, along) else _texts(answer, chart.x),
            answer.column(chart.y),
            _texts(answer, chart.series),
            _texts(answer, chart.facet),
            strict=True,
        )
    ]
    placed = [point for point in points if point["x"] is not None]
    if all(point["y"] is None for point in placed):
        return []
    if len(placed) < len(points):
        notes.append(f"Rows without {label(chart.x)}, not drawn: {len(points) - len(placed)}")
    if chart.facet:
        placed = _first(placed, "facet", _MOST_FACETS, chart.facet, notes)
        notes += [f"Each {label(chart.facet)} has its own scale"] if len(_names(placed, "facet")) > 1 else []
    if chart.kind == "bar":
        placed = _first(placed, "x", _MOST_BARS, chart.x, notes)
    return _largest(placed, chart, notes) if chart.series else placed


def _is_scale(chart: Chart, along: Sequence[Value]) -> bool:
    """Tell whether a drawing goes along a scale of time or numbers, not from one text to the next."""
    there = [value for value in along if value is not None]
    return chart.kind == "line" and (_is_time(there) or all(map(is_number, there)))


def _is_time(values: Sequence[Value]) -> bool:
    return all(isinstance(value, date) for value in values)


def _number(value: Value) -> float | None:
    """Give a place on a scale; of time in milliseconds."""
    if isinstance(value, date):
        moment = in_utc(value) if isinstance(value, datetime) else datetime.combine(value, time())
        return (moment - _EPOCH).total_seconds() * 1000
    return float(value) if is_number(value) and isfinite(value) else None


def _texts(answer: Answer, column: str | None) -> list[str]:
    """Give the values of a column as texts; dates that are months by their names."""
    if column is None:
        return [""] * len(answer.rows)
    values = answer.column(column)
    if all(isinstance(value, date) and not isinstance(value, datetime) and value.day == 1 for value in values):
        return [f"{value:%b %Y}" for value in values]
    return [shown(value, measured=column in answer.report.units) for value in values]


def _first(points: _Points, of: str, most: int, column: str, notes: list[str]) -> _Points:
    names = list(dict.fromkeys(point[of] for point in points))
    if len(names) <= most:
        return points
    notes.append(f"The first {most} of {len(names)} values of {label(column)}")
    return [point for point in points if point[of] in names[:most]]


def _largest(points: _Points, chart: Chart, notes: list[str]) -> _Points:
    """Keep the largest series; the others are one in bars that are stacked, and left out of what does not add up."""
    sizes: Counter[str] = Counter()
    for point in points:
        sizes[point["series"]] += abs(point["y"] or 0)
    if len(sizes) <= _MOST_SERIES:
        return points
    large = {name for name, _ in sizes.most_common(_MOST_SERIES)}
    notes.append(f"The {_MOST_SERIES} largest of {len(sizes)} values of {label(str(chart.series))}")
    if chart.stacked:
        return [point if point["series"] in large else point | {"series": _OTHERS} for point in points]
    return [point for point in points if point["series"] in large]


def _spec(answer: Answer, chart: Chart, points: _Points, theme: _Theme) -> _Spec:
    facets = len({point["facet"] for point in points})
    columns = 1 if facets <= _ROWS else 2
    width = _WIDTH // columns - _MARGIN if chart.facet else _WIDTH
    place = _place(answer, chart, points, width)
    measure: _Spec = {
        "field": "y",
        "type": "quantitative",
        "title": _titled(answer, chart.y),
        **({"aggregate": "sum", "stack": "zero"} if chart.stacked else {"stack": None}),
        "axis": {"format": _NUMBERS, "tickCount": 5} | ({"tickMinStep": 1} if _is_whole(points) else {}),
    }
    encoding: _Spec = {"x": measure, "y": place} if chart.horizontal else {"x": place, "y": measure}
    bars = 1
    if chart.series:
        names = _names(points, "series")
        colours = [theme.others if name == _OTHERS else theme.series[at] for at, name in enumerate(names)]
        across = max(1, _LETTERS // (max(map(len, names)) + 4))
        told_apart: _Spec = {"field": "series", "title": label(chart.series), "legend": {"columns": across}}
        encoding["color"] = told_apart | {"scale": {"domain": names, "range": colours}}
        if chart.kind == "line":
            encoding["shape"] = told_apart | {"scale": {"domain": names}}
        elif chart.stacked:
            encoding["order"] = {"field": "rank"}
            points = [point | {"rank": names.index(point["series"])} for point in points]
        else:
            encoding["yOffset" if chart.horizontal else "xOffset"] = {"field": "series", "sort": None}
            bars = len(names)
    dense = len({point["x"] for point in points}) > _DENSE
    drawn: _Spec = {
        "mark": {"type": "line", "point": {"size": 6 if dense else 36}} if chart.kind == "line" else {"type": "bar"},
        "encoding": encoding,
        "width": width,
        "height": len(_names(points, "x")) * (_BAR * bars + 6) if chart.horizontal else _HEIGHT // min(facets, 2),
    }
    if not chart.facet:
        return {"data": {"values": points}, "autosize": {"type": "fit-x", "contains": "padding"}, **drawn}
    return {
        "data": {"values": points},
        "facet": {"field": "facet", "type": "nominal", "title": None, "sort": _names(points, "facet")},
        "columns": columns,
        "spec": drawn,
        "resolve": {"scale": {"x" if chart.horizontal else "y": "independent"}},
    }


def _place(answer: Answer, chart: Chart, points: _Points, width: int) -> _Spec:
    """Say where a point lies along the chart, by `x=`."""
    along = answer.column(chart.x)
    place: _Spec = {"field": "x", "title": _titled(answer, chart.x)}
    if not _is_scale(chart, along):
        names = _names(points, "x")
        upright = chart.horizontal or (max(map(len, names)) + 2) * len(names) < width // _LETTER
        return place | {"type": "ordinal", "sort": None, "axis": {"grid": False, "labelAngle": 0 if upright else -40}}
    if all(map(is_number, along)):
        return place | {"type": "quantitative", "scale": {"zero": False}, "axis": {"format": _NUMBERS}}
    return place | {"type": "temporal", "scale": {"type": "utc"}, "axis": {"format": _TIMES}}


def _names(points: _Points, of: str) -> list[str]:
    """Name what there is, in the order of the answer; the others last."""
    names = dict.fromkeys(point[of] for point in points)
    return sorted(names, key=lambda name: name == _OTHERS)


def _titled(answer: Answer, column: str) -> str:
    unit = answer.report.units.get(column)
    return f"{label(column)} ({unit})" if unit else label(column)


def _is_whole(points: _Points) -> bool:
    return all(point["y"] is None or point["y"].is_integer() for point in points)


def _empty(message: str) -> _Spec:
    return {
        "data": {"values": [{}]},
        "mark": {"type": "text", "text": message, "fontSize": 16},
        "width": _WIDTH,
        "height": 100,
        "autosize": {"type": "fit-x", "contains": "padding"},
    }


def _config(theme: _Theme) -> _Spec:
    return {
        "aria": False,  # a picture of a hundred parts is read out as one: see `described`
        "font": _FONT,
        "background": theme.paper,
        "padding": 8,
        "view": {"stroke": None},
        "title": {
            "anchor": "start",
            "frame": "bounds",
            "color": theme.ink,
            "fontSize": 16,
            "offset": 14,
            "subtitleColor": theme.muted,
            "subtitleFontSize": 12,
            "subtitlePadding": 5,
        },
        "axis": {
            "domainColor": theme.muted,
            "gridColor": theme.grid,
            "labelColor": theme.ink,
            "labelFontSize": 12,
            "labelLimit": _LONGEST,
            "labelPadding": 5,
            "ticks": False,
            "titleColor": theme.muted,
            "titleFontSize": 12,
            "titleFontWeight": "normal",
            "titleLimit": _WIDTH,
        },
        "axisX": {"titlePadding": 8},
        "axisY": {"titleAlign": "left", "titleAnchor": "end", "titleAngle": 0, "titleX": 0, "titleY": -12},
        "axisQuantitative": {
            "domain": False,
            "gridColor": {"condition": {"test": "datum.value === 0", "value": theme.muted}, "value": theme.grid},
        },
        "axisTemporal": {"grid": False},
        "legend": {
            "orient": "top",
            "direction": "horizontal",
            "labelColor": theme.ink,
            "labelFontSize": 12,
            "labelLimit": _LONGEST,
            "titleColor": theme.muted,
            "titleFontSize": 12,
            "titleFontWeight": "normal",
            "titleOrient": "left",
            "symbolSize": 70,
            "offset": 32,
        },
        "header": {"labelColor": theme.ink, "labelFontSize": 13, "labelFontWeight": "bold", "labelAnchor": "start"},
        "mark": {"color": theme.series[0]},
        "line": {"strokeWidth": 2},
        "point": {"filled": True},
        "text": {"color": theme.muted},
        "bar": {"discreteBandSize": {"band": 0.8}},
    }


def described(answer: Answer) -> str:
    """Say what the drawing of an answer shows, to those who cannot see it."""
    chart = answer.report.chart
    if not chart:
        return ""
    kind = "Lines" if chart.kind == "line" else "Bars"
    split = [f", for each {label(column)}" for column in (chart.series, chart.facet) if column]
    return f"{kind}: {label(chart.y)} by {label(chart.x)}{''.join(split)}. The table below has the figures."
