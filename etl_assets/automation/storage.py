"""Dagster's storage where a deployment is one task: `python -m etl_assets.automation.storage --help`.

There, the storage is a database of the warehouse's server, and runs are processes that end with the task.
"""

import argparse
from collections.abc import Sequence

import dagster as dg

from etl_assets.adapters.postgres import Connection, connect, literal, quote_identifier
from etl_assets.adapters.settings import Variable, required

_STARTED = [dg.DagsterRunStatus.STARTING, dg.DagsterRunStatus.STARTED]


def create(connection: Connection, database: str) -> None:
    """Create a database, unless it exists."""
    [[exists]] = connection.run(f"SELECT EXISTS (SELECT FROM pg_database WHERE datname = {literal(database)})")
    if not exists:
        connection.run(f"CREATE DATABASE {quote_identifier(database)}")


def end_runs(instance: dg.DagsterInstance) -> list[str]:
    """End the runs of which an earlier task was the process. Return their ids.

    Dagster launches those that have failed again, as after the death of any worker.
    """
    started = instance.get_runs(dg.RunsFilter(statuses=_STARTED))
    for run in started:
        instance.report_run_failed(run, "The task in which it ran has ended.")
    canceling = instance.get_runs(dg.RunsFilter(statuses=[dg.DagsterRunStatus.CANCELING]))
    for run in canceling:
        instance.report_run_canceled(run, "The task in which it ran has ended.")
    return [run.run_id for run in (*started, *canceling)]


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command that the arguments name."""
    parser = argparse.ArgumentParser(prog="python -m etl_assets.automation.storage")
    commands = parser.add_subparsers(required=True, dest="command", metavar="command")
    commands.add_parser("create", help="create the database of DAGSTER_POSTGRES_DB on the warehouse's server")
    commands.add_parser("end-runs", help="end the runs of an earlier task, so that Dagster launches them again")
    if parser.parse_args(arguments).command == "create":
        with connect(required(Variable.WAREHOUSE_DATABASE_URL)) as connection:
            create(connection, required("DAGSTER_POSTGRES_DB"))
    else:
        with dg.DagsterInstance.get() as instance:
            for run_id in end_runs(instance):
                print(f"run {run_id} has ended with its task")


if __name__ == "__main__":
    main()
