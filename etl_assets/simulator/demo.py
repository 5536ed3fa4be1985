"""The whole platform on a laptop: a simulated totesys and a warehouse in an embedded PostgreSQL, buckets in files.

All data is under `.demo/`. Each demo starts from scratch.
"""

import os
from collections import defaultdict
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from textwrap import indent
from time import monotonic
from typing import Any

import dagster as dg
import numpy as np
import pandas as pd
import pyarrow as pa

from etl_assets.adapters.postgres import connect, transaction
from etl_assets.adapters.settings import Variable
from etl_assets.catalog.partitions import WINDOW_MINUTES
from etl_assets.catalog.stages import LOAD_OP, REBUILD, WAREHOUSE
from etl_assets.reports.answers import answer_reports
from etl_assets.reports.report import label, load_reports, text_table
from etl_assets.schema.columns import CAPTURED_AT
from etl_assets.simulator import folder, postgres
from etl_assets.simulator.activity import Totesys, create_schema
from etl_assets.simulator.folder import TOTESYS, WAREHOUSE_DATABASE, progress
from etl_assets.simulator.runs import QUIET, Runs
from etl_assets.transformation import STAR_TABLES
from etl_assets.transformation.facts import fact_sales_order
from etl_assets.transformation.star_table import ColumnOf
from etl_assets.warehouse.history import count_rows
from etl_assets.warehouse.relations import AS_OF, AS_OF_SETTING, LOADS, relation

_COPY = "warehouse_copy"
_PRINTED_REPORTS = ("payments_due", "order_changes")
_MAX_PRINTED_ROWS = 6
_NEW_NAME = "Evergreen"


_TOP_DESIGNS = """SELECT design_id, design_name, sum(units_sold) AS bags
    FROM fact_sales_order_current JOIN dim_design USING (design_id)
    GROUP BY design_id, design_name ORDER BY bags DESC, design_id LIMIT 3"""


def demo(years: int = 2, days: int = 5) -> None:
    """Load years of generated history and a simulated working week, and print what is in the warehouse."""
    started = monotonic()
    with folder.stopped_by_signals("The demo is not finished. Run it again."):
        command = folder.command("demo")
        folder.remove(command)
        folder.create(f"{_current_window():%Y-%m-%dT%H:%M}")
        with folder.in_use(command), ExitStack() as stack:
            with progress("starting PostgreSQL"):
                server = stack.enter_context(folder.databases(command))
            _run_demo(server, years, days)
        print(f"\nDone in {monotonic() - started:.0f} s.")
        print(f"Captures and star tables: {folder.BUCKETS}")
        print(f"All reports and charts on one page: {folder.PAGE.resolve().as_uri()}")
        print(f"Run `{folder.command('dev')}` to see it live on, in the Dagster UI: http://127.0.0.1:3000")


def clean() -> None:
    """Delete the demo's data."""
    folder.remove(folder.command("clean"))


def _run_demo(server: postgres.Server, years: int, days: int) -> None:
    url = server.create_database(TOTESYS)
    server.create_database(WAREHOUSE_DATABASE)
    today = datetime.now(UTC).date()
    working_days: list[date] = np.busday_offset([today], np.arange(-days, 0), roll="forward").tolist()
    runs = Runs(raise_on_error=True)
    with connect(url) as connection:
        create_schema(connection)
        totesys = Totesys(connection, seed=2022)
        with progress(f"generating {years} years of totesys"):
            totesys.generate_history(working_days[0] - timedelta(days=365 * years), working_days[0])
        load_seconds: defaultdict[str, float] = defaultdict(float)
        with progress("capturing all rows and loading the warehouse"):
            _add_load_seconds(load_seconds, runs.etl())
        [[week_before]] = _ask_warehouse(server, f"SELECT max(captured_at) FROM {LOADS}")
        for day in working_days:
            with progress(f"simulating {day:%A %d %B %Y}, capturing and loading what changed"):
                totesys.simulate_day(day)
                for table in ("sales_order", "purchase_order", "design"):
                    totesys.edit_silently(table)
                if day == working_days[-1]:
                    [[design, name, _], *_] = _ask_warehouse(server, _TOP_DESIGNS)
                    rename = "UPDATE design SET design_name = :name WHERE design_id = :design"
                    connection.run(rename, name=_NEW_NAME, design=design)
                _add_load_seconds(load_seconds, runs.etl())
    with progress("creating the reports"):
        runs.report()
    with progress("adding a derived column to the history, on a copy of the warehouse"):
        recomputed, seconds = _add_total_amount(server)
    _print_warehouse(server.url(WAREHOUSE_DATABASE), load_seconds)
    _print_top_designs(server, week_before, working_days[0], f"design {design} from {name} to {_NEW_NAME}")
    print(f"\nThe derived column total_amount was added to {recomputed:,} versions of sales orders in {seconds:.1f} s.")


def _add_load_seconds(load_seconds: defaultdict[str, float], run: dg.JobExecutionResult) -> None:
    """Add the time that each warehouse table took to load."""
    for event in run.asset_materializations_for_node(LOAD_OP):
        for phase in ("seconds_read", "seconds_write"):
            seconds = event.metadata[phase].value
            assert isinstance(seconds, float)
            load_seconds[event.asset_key.path[-1]] += seconds


def _current_window() -> datetime:
    now = datetime.now(UTC)
    return now.replace(minute=now.minute // WINDOW_MINUTES * WINDOW_MINUTES)


def _with_total_amount(sales_order: pd.DataFrame) -> pd.DataFrame:
    rows = fact_sales_order(sales_order)
    return rows.assign(total_amount=rows["units_sold"] * rows["unit_price"])


def _add_total_amount(server: postgres.Server) -> tuple[int, float]:
    """Rebuild sales orders with a derived column in a copy of the warehouse. Return versions changed, and seconds."""
    from etl_assets.definitions import definitions  # reads the environment

    origins = tuple(ColumnOf("sales_order", column) for column in ("units_sold", "unit_price"))
    changed = replace(
        fact_sales_order,
        columns=fact_sales_order.columns.append(pa.field("total_amount", pa.decimal128(21, 2), nullable=False)),
        derived_from={**fact_sales_order.derived_from, "total_amount": origins},
        transform=_with_total_amount,
    )
    stars = tuple(changed if star is fact_sales_order else star for star in STAR_TABLES)
    started = monotonic()
    os.environ[Variable.WAREHOUSE_DATABASE_URL] = server.create_database(_COPY, template=WAREHOUSE_DATABASE)
    # Without Dagster's instance: the demo's warehouse knows nothing of this run.
    definitions(star_tables=stars).resolve_job_def(REBUILD).execute_in_process(run_config=QUIET)
    with connect(os.environ[Variable.WAREHOUSE_DATABASE_URL]) as copy:
        [[rows]] = copy.run(f"SELECT count(total_amount) FROM {WAREHOUSE}.fact_sales_order")
    os.environ[Variable.WAREHOUSE_DATABASE_URL] = server.url(WAREHOUSE_DATABASE)
    return rows, monotonic() - started


def _ask_warehouse(server: postgres.Server, query: str, schema: str = WAREHOUSE, as_of: datetime | None = None) -> Any:
    """Return the rows of a query whose tables are in one of the schemas of the warehouse, now or as of a time."""
    with connect(server.url(WAREHOUSE_DATABASE)) as connection, transaction(connection):
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
            [[rows]] = warehouse.run(count_rows(star))
            [[versions]] = warehouse.run(f"SELECT count(*) FROM {relation(star.versions)}")
            lines.append((star.name, f"{rows:,}", f"{versions:,}", f"{load_seconds[star.name]:.2f} s"))
        print()
        print(indent(text_table(("warehouse table", "rows", "versions", "load time"), lines), "  "))
        reports, _ = load_reports()
        answers, _ = answer_reports(warehouse, [report for report in reports if report.name in _PRINTED_REPORTS])
    for answer in answers:
        print(f"\n{answer.report.title}")
        print(indent(text_table([label(column) for column in answer.columns], answer.rows[:_MAX_PRINTED_ROWS]), "  "))
