"""The whole platform on a laptop: a simulated totesys and a warehouse in an embedded PostgreSQL, buckets in files.

All data is under `.demo/`. Each demo starts from scratch.
"""

import os
import shutil
import signal
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from textwrap import indent
from time import monotonic
from typing import Any

import dagster as dg
import numpy as np
import pandas as pd
import pyarrow as pa
import yaml

from etl_assets.adapters.postgres import connect, transaction
from etl_assets.adapters.settings import Variable
from etl_assets.catalog.partitions import ETL_POOL
from etl_assets.catalog.stages import ETL, LOAD_OP, REBUILD, REPORT, REPORTS, WAREHOUSE
from etl_assets.definitions import definitions, defs
from etl_assets.reports.answers import answer_reports
from etl_assets.reports.report import label, load_reports, text_table
from etl_assets.schema.columns import CAPTURED_AT
from etl_assets.simulator import postgres
from etl_assets.simulator.activity import Totesys, create_schema
from etl_assets.transformation import STAR_TABLES
from etl_assets.transformation.facts import fact_sales_order
from etl_assets.transformation.star_table import ColumnOf
from etl_assets.warehouse.relations import AS_OF, AS_OF_SETTING, LOADS, current, relation

_FOLDER = Path(".demo")
_POSTGRES = _FOLDER / "postgres"
_DAGSTER = _FOLDER / "dagster"
_BUCKETS = _FOLDER / "buckets"
_PAGE = _FOLDER / "reports.html"
_TOTESYS, _WAREHOUSE, _COPY = "totesys", "warehouse", "warehouse_copy"
_DAGSTER_YAML = Path(__file__).parents[2] / "deploy" / "dagster.yaml"
_PRINTED_REPORTS = ("payments_due", "order_changes")
_MAX_PRINTED_ROWS = 6
_NEW_NAME = "Evergreen"
_QUIET = {"loggers": {"console": {"config": {"log_level": "ERROR"}}}}


_TOP_DESIGNS = """SELECT design_id, design_name, sum(units_sold) AS bags
    FROM fact_sales_order_current JOIN dim_design USING (design_id)
    GROUP BY design_id, design_name ORDER BY bags DESC, design_id LIMIT 3"""


def demo(years: int = 2, days: int = 5) -> None:
    """Load years of generated history and a simulated working week, and print what is in the warehouse."""
    started = monotonic()
    with _progress("starting PostgreSQL"):
        _create_folders()
    with postgres.serve(_POSTGRES) as server:
        url = server.create_database(_TOTESYS)
        server.create_database(_WAREHOUSE)
        today = datetime.now(UTC).date()
        working_days: list[date] = np.busday_offset([today], np.arange(-days, 0), roll="forward").tolist()
        with connect(url) as connection:
            create_schema(connection)
            totesys = Totesys(connection, seed=2022)
            with _progress(f"generating {years} years of totesys"):
                totesys.generate_history(working_days[0] - timedelta(days=365 * years), working_days[0])
            _set_environment(server)
            instance = dg.DagsterInstance.get()
            instance.event_log_storage.set_concurrency_slots(ETL_POOL, 1)
            load_seconds: defaultdict[str, float] = defaultdict(float)
            with _progress("capturing all rows and loading the warehouse"):
                _run_etl(instance, load_seconds)
            [[week_before]] = _ask_warehouse(server, f"SELECT max(captured_at) FROM {LOADS}")
            for day in working_days:
                with _progress(f"simulating {day:%A %d %B %Y}, capturing and loading what changed"):
                    totesys.simulate_day(day)
                    for table in ("sales_order", "purchase_order", "design"):
                        totesys.edit_silently(table)
                    if day == working_days[-1]:
                        [[design, name, _], *_] = _ask_warehouse(server, _TOP_DESIGNS)
                        rename = "UPDATE design SET design_name = :name WHERE design_id = :design"
                        connection.run(rename, name=_NEW_NAME, design=design)
                    _run_etl(instance, load_seconds)
        with _progress("creating the reports"):
            defs.resolve_job_def(REPORT).execute_in_process(instance=instance, run_config=_QUIET)
            shutil.copy(max((_BUCKETS / "transformation" / REPORTS).iterdir()), _PAGE)
        with _progress("adding a derived column to the history, on a copy of the warehouse"):
            recomputed, seconds = _add_total_amount(server, instance)
        _print_warehouse(server.url(_WAREHOUSE), load_seconds)
        _print_top_designs(server, week_before, working_days[0], f"design {design} from {name} to {_NEW_NAME}")
    print(f"\nThe derived column total_amount was added to {recomputed:,} versions of sales orders in {seconds:.1f} s.")
    print(f"\nDone in {monotonic() - started:.0f} s.")
    print(f"Captures and star tables: {_BUCKETS}")
    print(f"All reports and charts on one page: {_PAGE.resolve().as_uri()}")
    print("Run `make dev` to see it all in the Dagster UI: http://127.0.0.1:3000")


def dev() -> None:
    """Run the demo's databases, and the Dagster UI and daemon on its data, until interrupted."""
    if not _DAGSTER.exists():
        sys.exit("There is no demo yet. Run `make demo` first.")
    with postgres.serve(_POSTGRES) as server:
        _set_environment(server)
        print(f"totesys:   psql '{server.url(_TOTESYS)}'\nwarehouse: psql '{server.url(_WAREHOUSE)}'")
        dagster = [sys.executable, "-m", "dagster", "dev", "--workspace", "workspace.yaml", "--port", "3000"]
        process = subprocess.Popen(dagster)
        signal.signal(signal.SIGTERM, lambda *_: process.terminate())
        try:
            process.wait()
        except KeyboardInterrupt:  # the terminal sends Ctrl-C to Dagster too
            process.wait()


def clean() -> None:
    """Stop the demo's databases and delete its data."""
    if postgres.is_running(_POSTGRES):
        postgres.stop(_POSTGRES)
    postgres.remove(_POSTGRES)
    shutil.rmtree(_FOLDER, ignore_errors=True)


def _create_folders() -> None:
    if postgres.is_running(_POSTGRES):
        sys.exit("The databases of an earlier demo are running. Stop `make dev`, or run `make clean`.")
    clean()
    _DAGSTER.mkdir(parents=True)
    settings = yaml.safe_load(_DAGSTER_YAML.read_text())
    del settings["storage"], settings["python_logs"]  # for production only
    (_DAGSTER / "dagster.yaml").write_text(yaml.safe_dump(settings))


def _set_environment(server: postgres.Server) -> None:
    buckets = _BUCKETS.resolve().as_uri()
    os.environ |= {
        Variable.TOTESYS_DATABASE_URL: server.url(_TOTESYS),
        Variable.WAREHOUSE_DATABASE_URL: server.url(_WAREHOUSE),
        Variable.INGESTION_URL: f"{buckets}/ingestion",
        Variable.TRANSFORMATION_URL: f"{buckets}/transformation",
        "DAGSTER_HOME": str(_DAGSTER.resolve()),
    }


def _run_etl(instance: dg.DagsterInstance, load_seconds: defaultdict[str, float]) -> None:
    """Run `etl` for the current window, and add the time that each warehouse table took to load."""
    job = defs.resolve_job_def(ETL)
    # One fixed time, so that a run cannot start in one window and capture in the next.
    with dg.partition_loading_context(effective_dt=datetime.now(UTC)):
        assert job.partitions_def
        window = job.partitions_def.get_last_partition_key()
        result = job.execute_in_process(partition_key=window, instance=instance, run_config=_QUIET)
    for event in result.asset_materializations_for_node(LOAD_OP):
        for phase in ("seconds_read", "seconds_write"):
            seconds = event.metadata[phase].value
            assert isinstance(seconds, float)
            load_seconds[event.asset_key.path[-1]] += seconds


def _with_total_amount(sales_order: pd.DataFrame) -> pd.DataFrame:
    rows = fact_sales_order(sales_order)
    return rows.assign(total_amount=rows["units_sold"] * rows["unit_price"])


def _add_total_amount(server: postgres.Server, instance: dg.DagsterInstance) -> tuple[int, float]:
    """Rebuild sales orders with a derived column in a copy of the warehouse. Return versions changed, and seconds."""
    origins = tuple(ColumnOf("sales_order", column) for column in ("units_sold", "unit_price"))
    changed = replace(
        fact_sales_order,
        columns=fact_sales_order.columns.append(pa.field("total_amount", pa.decimal128(21, 2), nullable=False)),
        derived_from={**fact_sales_order.derived_from, "total_amount": origins},
        transform=_with_total_amount,
    )
    stars = tuple(changed if star is fact_sales_order else star for star in STAR_TABLES)
    started = monotonic()
    os.environ[Variable.WAREHOUSE_DATABASE_URL] = server.create_database(_COPY, template=_WAREHOUSE)
    job = definitions(star_tables=stars).resolve_job_def(REBUILD)
    job.execute_in_process(instance=instance, run_config=_QUIET)
    with connect(os.environ[Variable.WAREHOUSE_DATABASE_URL]) as copy:
        [[rows]] = copy.run(f"SELECT count(total_amount) FROM {WAREHOUSE}.fact_sales_order")
    os.environ[Variable.WAREHOUSE_DATABASE_URL] = server.url(_WAREHOUSE)
    return rows, monotonic() - started


def _ask_warehouse(server: postgres.Server, query: str, schema: str = WAREHOUSE, as_of: datetime | None = None) -> Any:
    """Return the rows of a query whose tables are in one of the schemas of the warehouse, now or as of a time."""
    with connect(server.url(_WAREHOUSE)) as connection, transaction(connection):
        connection.run(f"SET LOCAL search_path = {schema}")
        if as_of:
            connection.run(f"SET LOCAL {AS_OF_SETTING} = '{as_of}'")
        return connection.run(query)


def _print_top_designs(server: postgres.Server, as_of: datetime, first_day: date, renamed: str) -> None:
    """Ask one question twice, and say why the answers differ."""
    now, before = _ask_warehouse(server, _TOP_DESIGNS), _ask_warehouse(server, _TOP_DESIGNS, AS_OF, as_of)
    [[orders]] = _ask_warehouse(server, f"SELECT count(*) FROM fact_sales_order WHERE {CAPTURED_AT} > '{as_of}'")
    print(f"\nThe designs that sold most, now and as it was before {first_day:%A %d %B} ({AS_OF_SETTING} = '{as_of}')")
    header = ("design", "name now", "bags now", "design then", "name then", "bags then")
    print(indent(text_table(header, [(*row, *then) for row, then in zip(now, before, strict=True)]), "  "))
    print(f"  They differ because totesys renamed {renamed}, and took or changed {orders} orders in between.")


def _print_warehouse(url: str, load_seconds: Mapping[str, float]) -> None:
    with connect(url) as warehouse:
        lines = []
        for star in STAR_TABLES:
            present = current(star) if star.keeps_every_version else relation(star)
            [[rows]] = warehouse.run(f"SELECT count(*) FROM {present}")
            [[versions]] = warehouse.run(f"SELECT count(*) FROM {relation(star.versions)}")
            lines.append((star.name, f"{rows:,}", f"{versions:,}", f"{load_seconds[star.name]:.2f} s"))
        print()
        print(indent(text_table(("warehouse table", "rows", "versions", "load time"), lines), "  "))
        reports, _ = load_reports()
        answers, _ = answer_reports(warehouse, [report for report in reports if report.name in _PRINTED_REPORTS])
    for answer in answers:
        print(f"\n{answer.report.title}")
        print(indent(text_table([label(column) for column in answer.columns], answer.rows[:_MAX_PRINTED_ROWS]), "  "))


@contextmanager
def _progress(step: str) -> Iterator[None]:
    print(f"· {step} … ", end="", flush=True)
    started = monotonic()
    yield
    print(f"{monotonic() - started:.1f} s", flush=True)
