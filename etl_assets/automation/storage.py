"""Dagster's storage where a deployment is one task: `python -m etl_assets.automation.storage --help`.

There, the storage is a database of the warehouse's server, and runs are processes that end with the task.
"""

import argparse
from collections.abc import Sequence

import dagster as dg

from etl_assets.adapters.postgres import Connection, connect, quote_identifier
from etl_assets.adapters.settings import Variable, required

_STARTED = [dg.DagsterRunStatus.STARTING, dg.DagsterRunStatus.STARTED]


def create(connection: Connection, database: str) -> None:
    """Create a database, unless it exists."""
    [[exists]] = connection.run("SELECT EXISTS (SELECT FROM pg_database WHERE datname = :name)", name=database)
    if not exists:
        connection.run(f"CREATE DATABASE {quote_identifier(database)}")


def end_runs(instance: dg.DagsterInstance, ran_in: str) -> None:
    """Report that the runs of an earlier task, or of another thing that they ran in, have ended.

    Those that have failed are launched again, as after the death of any worker.
    """
    message = f"The {ran_in} in which it ran has ended."
    for run in instance.get_runs(dg.RunsFilter(statuses=_STARTED)):
        instance.report_run_failed(run, message)
    for run in instance.get_runs(dg.RunsFilter(statuses=[dg.DagsterRunStatus.CANCELING])):
        instance.report_run_canceled(run, message)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command that the arguments name."""
    parser = argparse.ArgumentParser(prog="python -m etl_assets.automation.storage")
    commands = parser.add_subparsers(required=True, dest="command", metavar="command")
    commands.add_parser("create", help="create the database of DAGSTER_POSTGRES_DB on the warehouse's server")
    commands.add_parser("end-runs", help="report that the runs of an earlier task have ended")
    if parser.parse_args(arguments).command == "create":
        with connect(required(Variable.WAREHOUSE_DATABASE_URL)) as connection:
            create(connection, required("DAGSTER_POSTGRES_DB"))
    else:
        with dg.DagsterInstance.get() as instance:
            end_runs(instance, "task")


if __name__ == "__main__":
    main()
