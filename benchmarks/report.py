"""docs/performance.md and its pictures."""

import os
import platform
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import vl_convert

from benchmarks.bench import SETTINGS, Bench, Curve, Report
from benchmarks.measure import HEADER
from etl_assets.databases import connect

_PACKAGES = ("dagster", "pg8000", "pyarrow", "pandas", "boto3")
_NUMERIC = {"ours", "ratio", "seconds", "own time", "share", "requests"}


def write(bench: Bench, docs: Path) -> None:
    """Write the report below a folder."""
    images = docs / "images"
    images.mkdir(parents=True, exist_ok=True)
    report = bench.report
    for name, curve in report.curves.items():
        (images / f"{name}.png").write_bytes(_drawn(curve))
    (docs / "performance.md").write_text(_page(bench, report))


def _page(bench: Bench, report: Report) -> str:
    sizes = bench.sizes
    parts = [
        "# Performance",
        "Written by `make bench`, which measures all of it anew in about a quarter of an hour; `make bench-smoke` "
        "takes a few minutes and shows that all can be measured. Neither fails for what it measures.",
        f"Seconds are medians of {sizes.rounds} rounds, {sizes.long_rounds} of what takes long, in which ours and the "
        "limit take turns, with the fastest and the slowest; a ratio is the median of the rounds' ratios. Memory is "
        "what a new process takes at most above what it has after its imports. The server is the embedded PostgreSQL, "
        "without `fsync`, for ours, the limits and the peers alike; buckets are files, with `fsync`.",
        _table(HEADER, [row.cells() for row in report.rows]),
        "## How it grows",
    ]
    for name, curve in report.curves.items():
        parts += [f"![{curve.title}](images/{name}.png)", _table([curve.x, curve.y], curve.cells())]
    for title, (header, lines) in report.tables.items():
        parts += [f"## {title}", _table(header, lines)]
    parts += ["## Where and with what", _table(["what", "which"], list(_machine(bench).items()))]
    if report.failures:
        parts += ["## Could not be measured", "\n".join(f"- {failure}" for failure in report.failures)]
    return "\n\n".join(parts) + "\n"


def _table(header: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    aligned = ["--:" if name in _NUMERIC else "---" for name in header]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (header, aligned, *lines))


def _machine(bench: Bench) -> Mapping[str, str]:
    with connect(bench.server.url()) as connection:
        [[postgres]] = connection.run("SHOW server_version")
    return {
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
        "processor": _first("/proc/cpuinfo", "model name"),
        "cores": str(os.cpu_count()),
        "memory": f"{int(_first('/proc/meminfo', 'MemTotal').split()[0]) / 1024**2:.0f} GB",
        "kernel": f"{platform.system()} {platform.release()}",
        "load of the machine at the end": f"{os.getloadavg()[2]:.1f} (15 minutes)",
        "Python": platform.python_version(),
        "PostgreSQL": ", ".join([postgres, *(f"{name} {value}" for name, value in SETTINGS.items())]),
        **{name: version(name) for name in _PACKAGES},
        **{f"{name} (peer)": number for name, number in bench.report.versions.items()},
    }


def _first(file: str, name: str) -> str:
    for line in Path(file).read_text().splitlines():
        if line.startswith(name):
            return line.partition(":")[2].strip()
    return "unknown"


def _drawn(curve: Curve) -> bytes:
    spec: dict[str, Any] = {
        "$schema": "https://vega.github.io/schema/vega-lite/v5.json",
        "title": curve.title,
        "width": 420,
        "height": 220,
        "background": "white",
        "data": {"values": [{"x": x, "y": y} for x, y in curve.points]},
        "mark": {"type": "line", "point": True},
        "encoding": {
            "x": {"field": "x", "type": "quantitative", "title": curve.x, "scale": {"type": "log"},
                  "axis": {"values": [x for x, _ in curve.points], "format": ",d"}},
            "y": {"field": "y", "type": "quantitative", "title": curve.y, "scale": {"zero": True}},
        },
    }  # fmt: skip
    return bytes(vl_convert.vegalite_to_png(spec, scale=2, allowed_base_urls=[]))
