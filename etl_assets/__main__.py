"""The command line: `python -m etl_assets --help`."""

import argparse
import sys
from collections.abc import Sequence
from functools import partial

from etl_assets.adapters.object_store import Bucket
from etl_assets.adapters.postgres import connect
from etl_assets.adapters.settings import EnvironmentVariableError, Variable, required
from etl_assets.reports.status import as_text, read_status
from etl_assets.totesys import TOTESYS_TABLES
from etl_assets.transformation import STAR_TABLES


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command that the arguments name."""
    parser = argparse.ArgumentParser(prog="python -m etl_assets")
    commands = parser.add_subparsers(required=True, metavar="command")
    status = commands.add_parser(
        "status", help="show what is captured, loaded and not loaded; exit with 1 if a part is down"
    )
    status.add_argument("--json", action="store_true", help="machine-readable, times in UTC")
    as_json = parser.parse_args(arguments).json
    try:
        bucket, source, warehouse = map(
            required, (Variable.INGESTION_URL, Variable.TOTESYS_DATABASE_URL, Variable.WAREHOUSE_DATABASE_URL)
        )
    except EnvironmentVariableError as error:
        sys.exit(str(error))
    state = read_status(
        [table.name for table in TOTESYS_TABLES],
        [star.name for star in STAR_TABLES],
        partial(Bucket, bucket),
        partial(connect, source),
        partial(connect, warehouse),
    )
    print(state.to_json() if as_json else as_text(state))
    sys.exit(bool(state.errors))


if __name__ == "__main__":
    main()
