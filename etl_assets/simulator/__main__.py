"""The command line: `python -m etl_assets.simulator --help`."""

import argparse
import sys
from collections.abc import Sequence
from datetime import UTC, date, datetime, time, timedelta
from time import sleep

from etl_assets.adapters.postgres import connect
from etl_assets.adapters.settings import Variable, required
from etl_assets.schema.errors import PermanentError
from etl_assets.simulator import demo
from etl_assets.simulator.activity import TRANSACTIONS_PER_DAY, Totesys, create_missing_tables, create_schema


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command that the arguments name."""
    parser = argparse.ArgumentParser(
        prog="python -m etl_assets.simulator",
        description=f"Simulate totesys in the database of {Variable.TOTESYS_DATABASE_URL}, or run the demo.",
    )
    commands = parser.add_subparsers(required=True, metavar="command")

    past = commands.add_parser("past", help="create the tables and fill them with generated history")
    past.add_argument("--start", type=date.fromisoformat, required=True, help="first day, such as 2022-11-03")
    today = _now().date()
    past.add_argument("--end", type=date.fromisoformat, default=today, help="day after the last (default: today)")
    past.set_defaults(run=_past)

    live = commands.add_parser("live", help="simulate activity in real time, until interrupted")
    live.set_defaults(run=_live)

    for command in (past, live):
        command.add_argument("--seed", type=int, default=0, help="the same seed gives the same rows (default: 0)")
        average = "average per working day (default: %(default)s)"
        command.add_argument("--transactions-per-day", type=float, default=TRANSACTIONS_PER_DAY, help=average)

    commands.add_parser("demo", help="run the whole pipeline on simulated data").set_defaults(run=demo.demo)
    commands.add_parser("dev", help="open the Dagster UI on the demo's data").set_defaults(run=demo.dev)
    commands.add_parser("clean", help="delete the demo's data").set_defaults(run=demo.clean)

    parsed = vars(parser.parse_args(arguments))
    try:
        parsed.pop("run")(**parsed)
    except PermanentError as error:
        sys.exit(str(error))


def _past(start: date, end: date, seed: int, transactions_per_day: float) -> None:
    with connect(required(Variable.TOTESYS_DATABASE_URL)) as connection:
        create_schema(connection)
        Totesys(connection, seed).generate_history(start, end, transactions_per_day)


def _live(seed: int, transactions_per_day: float) -> None:
    with connect(required(Variable.TOTESYS_DATABASE_URL)) as connection:
        create_missing_tables(connection)
        totesys = Totesys(connection, seed)
        day = _now().date()
        while True:
            for event in totesys.plan_day(day, transactions_per_day):
                if event.at >= _now():
                    _sleep_until(event.at)
                    event.apply()
            day += timedelta(days=1)
            _sleep_until(datetime.combine(day, time()))


def _sleep_until(at: datetime) -> None:
    while (seconds := (at - _now()).total_seconds()) > 0:
        sleep(min(seconds, 30))


def _now() -> datetime:
    return datetime.now(UTC).replace(tzinfo=None)


if __name__ == "__main__":
    main()
