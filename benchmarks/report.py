"""Writes docs/performance.md and its charts."""

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
from etl_assets.adapters.postgres import connect

_PACKAGES = ("dagster", "pg8000", "pyarrow", "pandas", "boto3")
_NUMERIC = {"ours", "ratio", "seconds", "own time", "share", "requests"}


def write(bench: Bench, docs: Path) -> None:
    """Write the report and its charts to a folder."""
    images = docs / "images"
    images.mkdir(parents=True, exist_ok=True)
    report = bench.report
    for name, curve in report.curves.items():
        (images / f"{name}.png").write_bytes(_chart(curve))
    (docs / "performance.md").write_text(_page(bench, report))


def _page(bench: Bench, report: Report) -> str:
    sizes = bench.sizes
    parts = [
        "# Performance",
        "For those who want to know how fast it is, what that is compared with, and where the time goes.",
        "Written by `make bench`, which repeats all measurements in about 15 minutes. `make bench-smoke` runs every "
        "benchmark on little data in a few minutes. Neither fails if a target is missed.",
        f"Times are medians of {sizes.rounds} rounds ({sizes.long_rounds} for long tasks), with the fastest and the "
        "slowest in parentheses. In each round, ours and the limit run in turn; the ratio is the median of the ratios "
        "per round. Memory is the peak of a new process, minus its memory after the imports. Ours, limits and peers "
        "use the same embedded PostgreSQL, without `fsync`; buckets are files, with `fsync`.",
        _table(HEADER, [row.cells() for row in report.rows]),
        "## How it grows",
    ]
    for name, curve in report.curves.items():
        parts += [f"![{curve.title}](images/{name}.png)", _table([curve.x, curve.y], curve.cells())]
    for title, (header, lines) in report.tables.items():
        parts += [f"## {title}", _table(header, lines)]
    parts += ["## Environment", _table(["what", "value"], list(_environment(bench).items()))]
    if report.failures:
        parts += ["## Failed benchmarks", "\n".join(f"- {failure}" for failure in report.failures)]
    return "\n\n".join(parts) + "\n"


def _table(header: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    aligned = ["--:" if name in _NUMERIC else "---" for name in header]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (header, aligned, *lines))


def _environment(bench: Bench) -> Mapping[str, str]:
    with connect(bench.server.url()) as connection:
        [[postgres]] = connection.run("SHOW server_version")
    return {
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
        "processor": _read_field("/proc/cpuinfo", "model name"),
        "cores": str(os.cpu_count()),
        "memory": f"{int(_read_field('/proc/meminfo', 'MemTotal').split()[0]) / 1024**2:.0f} GB",
        "kernel": f"{platform.system()} {platform.release()}",
        "load average at the end": f"{os.getloadavg()[2]:.1f} (15 minutes)",
        "Python": platform.python_version(),
        "PostgreSQL": ", ".join([postgres, *(f"{name} {value}" for name, value in SETTINGS.items())]),
        **{name: version(name) for name in _PACKAGES},
        **{f"{name} (peer)": number for name, number in bench.report.versions.items()},
    }


def _read_field(file: str, name: str) -> str:
    for line in Path(file).read_text().splitlines():
        if line.startswith(name):
            return line.partition(":")[2].strip()
    return "unknown"


def _chart(curve: Curve) -> bytes:
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
