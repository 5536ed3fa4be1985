"""Dagster's storage where runs are processes of the one task."""

import dagster as dg
from dagster._core.test_utils import create_run_for_test

from etl_assets.adapters.postgres import connect
from etl_assets.automation.storage import create, end_runs
from etl_assets.simulator.postgres import Server
from etl_assets_tests.harness import new_database

Status = dg.DagsterRunStatus


def test_the_database_is_created_once(server: Server) -> None:
    with connect(new_database(server)) as connection:
        for _ in range(2):
            create(connection, "own storage")
        assert connection.run("SELECT datname FROM pg_database WHERE datname = 'own storage'") == [["own storage"]]
        connection.run('DROP DATABASE "own storage"')


def test_started_runs_are_ended_and_all_others_left_alone() -> None:
    ended = {Status.STARTING: Status.FAILURE, Status.STARTED: Status.FAILURE, Status.CANCELING: Status.CANCELED}
    left = (Status.NOT_STARTED, Status.SUCCESS, Status.FAILURE, Status.CANCELED)
    with dg.DagsterInstance.ephemeral() as instance:
        runs = {status: create_run_for_test(instance, status=status).run_id for status in (*ended, *left)}
        end_runs(instance, "task")
        after = {status: instance.get_run_by_id(run_id) for status, run_id in runs.items()}
        assert {status: run.status for status, run in after.items() if run} == ended | {each: each for each in left}
