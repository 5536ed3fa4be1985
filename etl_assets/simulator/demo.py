"""The whole platform on a laptop: an embedded PostgreSQL with a simulated totesys and a warehouse, buckets in files.

Everything lies under `.demo/`, and is made anew by each demo.
"""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from time import monotonic

import dagster as dg
import yaml

from etl_assets.automation import ETL, REPORT
from etl_assets.databases import connect, quoted
from etl_assets.definitions import defs
from etl_assets.environment import Variable
from etl_assets.ingestion import CAPTURE_TO_LOAD
from etl_assets.reports.assets import REPORTS, answers, declared
from etl_assets.reports.declare import Value, label, shown
from etl_assets.simulator import postgres
from etl_assets.simulator.activity import Totesys, create_schema
from etl_assets.transformation import STAR_TABLES
from etl_assets.warehouse.schema import WAREHOUSE

FOLDER = Path(".demo")

_POSTGRES = FOLDER / "postgres"
_DAGSTER = FOLDER / "dagster"
_TOTESYS, _WAREHOUSE = "totesys", "warehouse"
_SEED = 2022
_DEPLOYED_DAGSTER = Path(__file__).parents[2] / "deploy" / "dagster.yaml"
_ONLY_DEPLOYED = ("storage", "python_logs")
_PRINTED = ("payments_due", "order_changes")
_ROWS_PRINTED = 6
_PAGE = FOLDER / "reports.html"
_QUIET = {"loggers": {"console": {"config": {"log_level": "ERROR"}}}}


def demo(years: int = 2, lived_days: int = 3) -> None:
    """Run the pipeline over simulated years and some days lived after them, and show what is in the warehouse."""
    started = monotonic()
    with _progress("starting PostgreSQL"):
        _make_folders()
    with postgres.serve(_POSTGRES) as server:
        url = server.create_database(_TOTESYS)
        server.create_database(_WAREHOUSE)
        today = datetime.now(UTC).date()
        working_days = _working_days_before(today, lived_days)
        with connect(url) as connection:
            create_schema(connection)
            totesys = Totesys(connection, _SEED)
            with _progress(f"simulating {years} years of totesys"):
                totesys.past(working_days[0] - timedelta(days=365 * years), working_days[0])
            _set_environment(server)
            instance = dg.DagsterInstance.get()
            instance.event_log_storage.set_concurrency_slots(CAPTURE_TO_LOAD, 1)
            seconds = dict.fromkeys((star.name for star in STAR_TABLES), 0.0)
            with _progress("capturing everything, loading it into the warehouse"):
                _run(instance, seconds)
            for day in working_days:
                with _progress(f"living through {day:%A %d %B %Y}, then capturing what changed"):
                    totesys.day(day)
                    for table in ("sales_order", "purchase_order", "design"):
                        totesys.edit_silently(table)
                    _run(instance, seconds)
        with _progress("answering the reports"):
            defs.resolve_job_def(REPORT).execute_in_process(instance=instance, run_config=_QUIET)
            shutil.copy(max((FOLDER / "buckets" / "transformation" / REPORTS).iterdir()), _PAGE)
        _show(server.url(_WAREHOUSE), seconds)
    print(f"\nDone in {monotonic() - started:.0f} s. The captures and star tables are under {FOLDER}/buckets.")
    print("`make dev` opens the Dagster UI on all this: http://127.0.0.1:3000")
    print(f"All reports, with their charts, are on one page: {_PAGE.resolve().as_uri()}")


def dev() -> None:
    """Run the Dagster UI and daemon on the demo's data, and its databases, until interrupted."""
    if not _DAGSTER.exists():
        sys.exit("There is no demo yet: `make demo` first.")
    with postgres.serve(_POSTGRES) as server:
        _set_environment(server)
        print(f"totesys:   psql '{server.url(_TOTESYS)}'\nwarehouse: psql '{server.url(_WAREHOUSE)}'")
        dagster = [sys.executable, "-m", "dagster", "dev", "--workspace", "workspace.yaml", "--port", "3000"]
        process = subprocess.Popen(dagster)
        signal.signal(signal.SIGTERM, lambda *_: process.terminate())
        try:
            process.wait()
        except KeyboardInterrupt:  # which the terminal has sent to Dagster too
            process.wait()


def clean() -> None:
    """Stop what runs on the demo's data, and remove them."""
    if postgres.is_running(_POSTGRES):
        postgres.stop(_POSTGRES)
    postgres.remove(_POSTGRES)
    shutil.rmtree(FOLDER, ignore_errors=True)


def _make_folders() -> None:
    if postgres.is_running(_POSTGRES):
        sys.exit("The databases of an earlier demo are running. Stop `make dev`, or run `make clean`.")
    clean()
    _DAGSTER.mkdir(parents=True)
    settings = yaml.safe_load(_DEPLOYED_DAGSTER.read_text())
    on_a_laptop = {name: value for name, value in settings.items() if name not in _ONLY_DEPLOYED}
    (_DAGSTER / "dagster.yaml").write_text(yaml.safe_dump(on_a_laptop))


def _set_environment(server: postgres.Server) -> None:
    buckets = (FOLDER / "buckets").resolve().as_uri()
    os.environ |= {
        Variable.TOTESYS_DATABASE_URL: server.url(_TOTESYS),
        Variable.WAREHOUSE_DATABASE_URL: server.url(_WAREHOUSE),
        Variable.INGESTION_URL: f"{buckets}/ingestion",
        Variable.TRANSFORMATION_URL: f"{buckets}/transformation",
        "DAGSTER_HOME": str(_DAGSTER.resolve()),
    }


def _working_days_before(day: date, count: int) -> list[date]:
    recent = (day - timedelta(days=back) for back in range(1, 2 * count + 7))
    return sorted([earlier for earlier in recent if earlier.weekday() < 5][:count])


def _run(instance: dg.DagsterInstance, seconds: dict[str, float]) -> None:
    """Run `etl` in the present window; add up what loading each warehouse table took."""
    job = defs.resolve_job_def(ETL)
    # the clock of the windows stands still meanwhile: a run must not begin in one and capture in the next
    with dg.partition_loading_context(effective_dt=datetime.now(UTC)):
        assert job.partitions_def
        result = job.execute_in_process(
            partition_key=job.partitions_def.get_last_partition_key(), instance=instance, run_config=_QUIET
        )
    for event in result.asset_materializations_for_node(WAREHOUSE):
        for part in ("seconds_read", "seconds_write"):
            taken = event.metadata[part].value
            assert isinstance(taken, float)
            seconds[event.asset_key.path[-1]] += taken


def _show(url: str, seconds: Mapping[str, float]) -> None:
    with connect(url) as warehouse:
        rows = []
        for star in STAR_TABLES:
            table = f"{WAREHOUSE}.{quoted(star.name)}"
            [[count]] = warehouse.run(f"SELECT count(*) FROM {table}")
            current = count
            if star.record_id:
                [[current]] = warehouse.run(f"SELECT count(*) FROM {WAREHOUSE}.{quoted(star.name + '_current')}")
            rows.append(
                (
                    star.name,
                    f"{current:,}",
                    f"{count:,}" if star.record_id else "",
                    f"{seconds[star.name]:.2f} s",
                )
            )
        print()
        _print_table(("warehouse table", "rows", "versions", "loading took"), rows)
        found, _ = answers(warehouse, [report for report in declared() if report.name in _PRINTED])
    for answer in found:
        print(f"\n{answer.report.title}")
        _print_table([label(column) for column in answer.columns], answer.rows[:_ROWS_PRINTED])


def _print_table(header: Sequence[str], rows: Iterable[Sequence[Value]]) -> None:
    lines = [header, *([shown(cell) for cell in row] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for number, line in enumerate(lines):
        print("  " + "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())
        if number == 0:
            print("  " + "  ".join("─" * width for width in widths))


@contextmanager
def _progress(doing: str) -> Iterator[None]:
    print(f"· {doing} … ", end="", flush=True)
    started = monotonic()
    yield
    print(f"{monotonic() - started:.1f} s", flush=True)
