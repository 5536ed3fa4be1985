"""The command line: `python -m etl_assets.simulator --help`."""

import argparse
import sys
from collections.abc import Sequence
from contextlib import suppress
from datetime import date
from math import inf

from etl_assets.adapters.postgres import connect
from etl_assets.adapters.settings import Variable, required
from etl_assets.schema.errors import PermanentError
from etl_assets.simulator import demo, dev
from etl_assets.simulator.activity import TRANSACTIONS_PER_DAY, Totesys, create_missing_tables, create_schema
from etl_assets.simulator.live import follow, now, plan


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command that the arguments name."""
    parser = argparse.ArgumentParser(
        prog="python -m etl_assets.simulator",
        description=f"Simulate totesys in the database of {Variable.TOTESYS_DATABASE_URL}, or run the demo.",
    )
    commands = parser.add_subparsers(required=True, metavar="command")

    past = commands.add_parser("past", help="create the tables and fill them with generated history")
    past.add_argument("--start", type=date.fromisoformat, required=True, help="first day, such as 2022-11-03")
    past.add_argument(
        "--end", type=date.fromisoformat, default=now().date(), help="day after the last (default: today)"
    )
    past.set_defaults(run=_past)

    live = commands.add_parser("live", help="simulate activity, until interrupted")
    live.set_defaults(run=_live)

    for command in (past, live):
        command.add_argument("--seed", type=int, default=0, help="the same seed gives the same rows (default: 0)")
        average = "average per working day (default: %(default)s)"
        command.add_argument("--transactions-per-day", type=float, default=TRANSACTIONS_PER_DAY, help=average)

    commands.add_parser("demo", help="run the whole pipeline on simulated data").set_defaults(run=demo.demo)
    watched = commands.add_parser("dev", help="let the demo live on, in the Dagster UI, until interrupted")
    watched.add_argument("--port", type=int, default=dev.PORT, help="of the Dagster UI (default: %(default)s)")
    watched.set_defaults(run=dev.dev)
    for command, speed in ((live, 1.0), (watched, dev.SPEED)):
        meaning = "1: as the real totesys; more: working day follows on working day, so many times as fast"
        command.add_argument("--speed", type=_speed, default=speed, help=f"{meaning} (default: %(default)g)")

    commands.add_parser("databases", help="run the demo's databases, until interrupted").set_defaults(run=dev.databases)
    commands.add_parser("clean", help="delete the demo's data").set_defaults(run=demo.clean)

    parsed = vars(parser.parse_args(arguments))
    try:
        parsed.pop("run")(**parsed)
    except PermanentError as error:
        sys.exit(str(error))


def _speed(text: str) -> float:
    with suppress(ValueError):
        if 0 < (speed := float(text)) < inf:
            return speed
    raise argparse.ArgumentTypeError(f"must be a number above 0, not {text!r}")


def _past(start: date, end: date, seed: int, transactions_per_day: float) -> None:
    with connect(required(Variable.TOTESYS_DATABASE_URL)) as connection:
        create_schema(connection)
        Totesys(connection, seed).generate_history(start, end, transactions_per_day)


def _live(seed: int, transactions_per_day: float, speed: float) -> None:
    with connect(required(Variable.TOTESYS_DATABASE_URL)) as connection:
        create_missing_tables(connection)
        for _ in follow(plan(Totesys(connection, seed), now(), speed, transactions_per_day)):
            pass


if __name__ == "__main__":
    main()
