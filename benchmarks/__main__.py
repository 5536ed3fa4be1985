"""Run the benchmarks, print the results, and write them to a folder if one is given."""

import argparse
import sys
import tempfile
from functools import partial
from pathlib import Path
from time import monotonic

from benchmarks import moments, rebuilds, report, stages, ticks
from benchmarks.bench import Bench, Report, Sizes, serve
from benchmarks.measure import Row, imports, in_turn, python, seconds, timed

_INSTANCE = "from dagster import DagsterInstance; DagsterInstance.ephemeral()"  # imports SQLAlchemy and Alembic
_START = f"import etl_assets.definitions; {_INSTANCE}"


def start_up(bench: Bench) -> None:
    """Measure how long a process takes before it can run anything."""
    ours, dagster = in_turn(bench.sizes.long_rounds, *(partial(timed, python, code) for code in (_START, _INSTANCE)))
    what = "process start: Python, `import etl_assets.definitions`, an ephemeral Dagster instance"
    bench.report.row(Row(what, seconds(ours), f"the same without etl_assets: {seconds(dagster)}"))
    bench.report.table("Imports of a process", ["imported package", "own time", "share"], imports(_START))


_SECTIONS = {
    section.__name__: section
    for section in (
        start_up,
        stages.captures_of_orders,
        stages.captures_of_nothing,
        stages.key_lists,
        stages.facts,
        stages.loads,
        rebuilds.rebuilds,
        moments.moments,
        ticks.first_runs,
        ticks.ticks,
        ticks.histories_of_captures,
        ticks.histories_of_rows,
    )
}


def main() -> None:
    """Run the benchmarks that the command line names."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("docs", nargs="?", type=Path, help="folder for performance.md and images/")
    parser.add_argument("--rows", type=int, default=1_000_000, help="number of sales orders (default: 1,000,000)")
    parser.add_argument("--quick", action="store_true", help="one round each, on in-memory Dagster storage only")
    parser.add_argument("--only", nargs="+", choices=list(_SECTIONS), default=list(_SECTIONS), help="default: all")
    arguments = parser.parse_args()
    sizes = Sizes(arguments.rows, 1, 1, ("ephemeral",)) if arguments.quick else Sizes(arguments.rows)
    results = Report()
    started = monotonic()
    with tempfile.TemporaryDirectory(prefix="totesys-bench-") as folder:
        home = Path(folder) / "postgres"
        with serve(home) as server:
            bench = Bench(server, home, Path(folder), sizes, results)
            for name in arguments.only:
                section_started = monotonic()
                bench.attempt(_SECTIONS[name])
                print(f"({name}: {monotonic() - section_started:.0f} s)", flush=True)
            report.write(bench, arguments.docs or Path(folder) / "docs")
    print(f"Done in {monotonic() - started:.0f} s.")
    if results.failures:
        sys.exit("\n".join(["failed benchmarks:", *results.failures]))


if __name__ == "__main__":
    main()
