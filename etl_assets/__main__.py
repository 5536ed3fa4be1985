"""The command line: `python -m etl_assets --help`."""

import argparse
import os
import sys
from collections.abc import Sequence
from functools import partial

from botocore.exceptions import BotoCoreError, ClientError

from etl_assets.adapters.postgres import DatabaseUnavailableError, transaction
from etl_assets.adapters.resources import DatabaseResource
from etl_assets.adapters.settings import Variable, open_bucket, required
from etl_assets.catalog.stages import INGESTION, TRANSFORMATION
from etl_assets.preflight.buckets import check_bucket
from etl_assets.preflight.checks import Preflight
from etl_assets.preflight.databases import check_source, check_warehouse
from etl_assets.preflight.services import check_dagster, check_metrics, check_topic, check_variables, check_versions
from etl_assets.reports import status
from etl_assets.reports.report import load_reports
from etl_assets.schema.errors import PermanentError
from etl_assets.schema.table import Catalog, referenced_first
from etl_assets.totesys import TOTESYS_TABLES
from etl_assets.transformation import STAR_TABLES
from etl_assets.transformation.code_version import rule_versions
from etl_assets.transformation.star_table import with_descriptions
from etl_assets.warehouse import plan, trace
from etl_assets.warehouse.rebuild import Stores, expected_rebuilds


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command that the arguments name."""
    parser = argparse.ArgumentParser(prog="python -m etl_assets")
    commands = parser.add_subparsers(required=True, metavar="command")
    command = commands.add_parser(
        "status", help="show what is captured, loaded and not loaded; exit with 1 if a part is down"
    )
    command.add_argument("--json", action="store_true", help="machine-readable, times in UTC")
    command.set_defaults(run=_print_status)
    command = commands.add_parser(
        "check", help="check that everything is reached and every right held; exit with 1 if not"
    )
    command.add_argument("--json", action="store_true", help="machine-readable")
    command.add_argument("--publish", action="store_true", help="also send a test message and a test metric")
    command.add_argument("--without-dagster", action="store_true", help="leave out Dagster's storage")
    command.set_defaults(run=_print_checks)
    command = commands.add_parser(
        "plan", help="show how the warehouse differs from its declaration; nothing is changed"
    )
    command.set_defaults(run=_print_plan)
    command = commands.add_parser("trace", help="show where each version of a row of a star table came from")
    command.add_argument("table", help="a star table, such as fact_sales_order")
    command.add_argument("key", nargs="+", help="the values of its key")
    command.add_argument("--show-personal", action="store_true", help="do not mask personal data")
    command.set_defaults(run=_print_trace)
    options = parser.parse_args(arguments)
    try:
        options.run(options)
    except (PermanentError, DatabaseUnavailableError, BotoCoreError, ClientError, OSError) as error:
        sys.exit(" ".join(str(error).split()))


def _print_status(options: argparse.Namespace) -> None:
    for variable in (Variable.INGESTION_URL, Variable.TOTESYS_DATABASE_URL, Variable.WAREHOUSE_DATABASE_URL):
        required(variable)
    source, warehouse = _databases()
    state = status.read_status(
        [table.name for table in TOTESYS_TABLES],
        [star.name for star in STAR_TABLES],
        partial(open_bucket, Variable.INGESTION_URL),
        source.connect,
        warehouse.connect,
    )
    print(state.to_json() if options.json else status.as_text(state))
    sys.exit(bool(state.errors))


def _databases() -> tuple[DatabaseResource, DatabaseResource]:
    """Return the source and the warehouse."""
    source, warehouse = Variable.TOTESYS_DATABASE_URL, Variable.WAREHOUSE_DATABASE_URL
    return DatabaseResource(variable=source), DatabaseResource(variable=warehouse)


def _print_checks(options: argparse.Namespace) -> None:
    catalog = with_descriptions(Catalog(TOTESYS_TABLES, STAR_TABLES))
    source, warehouse = _databases()
    made = Preflight()
    check_variables(made, os.environ)
    check_source(made, source.connect, catalog.sources)
    check_warehouse(made, warehouse.connect, catalog, rule_versions(catalog))
    for stage, variable in ((INGESTION, Variable.INGESTION_URL), (TRANSFORMATION, Variable.TRANSFORMATION_URL)):
        check_bucket(made, stage, partial(open_bucket, variable))
    check_topic(made, publish=options.publish)
    check_metrics(made, publish=options.publish)
    if not options.without_dagster:
        check_dagster(made)
    check_versions(made)
    print(made.as_json() if options.json else made.as_text())
    sys.exit(made.failed)


def _print_plan(options: argparse.Namespace) -> None:  # noqa: ARG001 (it has none)
    catalog = with_descriptions(Catalog(TOTESYS_TABLES, STAR_TABLES))
    stars = referenced_first(catalog.stars)
    warehouse = DatabaseResource(variable=Variable.WAREHOUSE_DATABASE_URL)
    with warehouse.connect() as connection, transaction(connection, snapshot=True):
        planned = plan.plan(connection, stars)
        rebuilds = expected_rebuilds(connection, catalog, rule_versions(catalog))
    reports, _ = load_reports()
    by_star = {star.name: [report.name for report in reports if star.name in report.query] for star in stars}
    print(plan.as_text(planned, by_star, rebuilds))


def _print_trace(options: argparse.Namespace) -> None:
    catalog = with_descriptions(Catalog(TOTESYS_TABLES, STAR_TABLES))
    source, warehouse = _databases()
    ingestion, transformation = map(open_bucket, (Variable.INGESTION_URL, Variable.TRANSFORMATION_URL))
    found = trace.trace(
        Stores(ingestion, transformation, warehouse.connect),
        source.connect,
        catalog,
        rule_versions(catalog),
        options.table,
        options.key,
        show_personal=options.show_personal,
    )
    print(trace.as_text(found))


if __name__ == "__main__":
    main()
