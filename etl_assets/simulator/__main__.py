"""The command line: `python -m etl_assets.simulator --help`."""

import argparse
import sys
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from time import sleep

from etl_assets.databases import connect
from etl_assets.environment import Variable, required
from etl_assets.errors import PermanentError
from etl_assets.simulator import demo
from etl_assets.simulator.activity import TRANSACTIONS_PER_DAY, Event, Totesys, create_schema


def main(arguments: Sequence[str] | None = None) -> None:
    """Do what the command line says."""
    parser = argparse.ArgumentParser(
        prog="python -m etl_assets.simulator",
        description=f"A simulated totesys, in the database that {Variable.TOTESYS_DATABASE_URL} names.",
    )
    commands = parser.add_subparsers(required=True, metavar="command")

    past = commands.add_parser("past", help="create the tables and fill them with a past, in bulk")
    past.add_argument("--start", type=date.fromisoformat, required=True, help="the first day, as 2022-11-03")
    past.add_argument("--end", type=date.fromisoformat, default=_today(), help="the day after the last (today)")
    past.set_defaults(do=_past)

    live = commands.add_parser("live", help="live on in real time, until interrupted")
    live.set_defaults(do=_live)

    for command in (past, live):
        command.add_argument("--seed", type=int, default=0, help="the same seed gives the same rows (0)")
        command.add_argument(
            "--transactions-per-day",
            type=float,
            default=TRANSACTIONS_PER_DAY,
            help=f"({TRANSACTIONS_PER_DAY})",
        )

    for name, do, text in (
        ("demo", demo.demo, "run the whole pipeline on a simulated totesys"),
        ("dev", demo.dev, "open the Dagster UI on the demo's data"),
        ("clean", demo.clean, "remove the demo's data"),
    ):
        commands.add_parser(name, help=text).set_defaults(do=lambda _, do=do: do())

    parsed = parser.parse_args(arguments)
    try:
        parsed.do(parsed)
    except PermanentError as error:
        sys.exit(str(error))


def _past(parsed: argparse.Namespace) -> None:
    with connect(required(Variable.TOTESYS_DATABASE_URL)) as connection:
        create_schema(connection)
        Totesys(connection, parsed.seed).past(parsed.start, parsed.end, parsed.transactions_per_day)


def _live(parsed: argparse.Namespace) -> None:
    with connect(required(Variable.TOTESYS_DATABASE_URL)) as connection:
        totesys = Totesys(connection, parsed.seed)
        day = _today()
        while True:
            for event in totesys.events(day, parsed.transactions_per_day):
                if event.at >= _now():
                    _wait_for(event)
                    event.happen()
            day += timedelta(days=1)
            while _today() < day:
                sleep(30)


def _wait_for(event: Event) -> None:
    while (seconds := (event.at - _now()).total_seconds()) > 0:
        sleep(min(seconds, 30))


def _now() -> datetime:
    return datetime.now(UTC).replace(tzinfo=None)


def _today() -> date:
    return _now().date()


if __name__ == "__main__":
    main()
