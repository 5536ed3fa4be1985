"""Log lines, as machines read them."""

import json
import logging
import subprocess
import sys
from typing import Any

import dagster as dg
import pytest
import yaml

from etl_assets.logs import JsonFormatter
from etl_assets_tests.test_definitions import ROOT


@dg.asset(key=["transformation", "dim_staff"], partitions_def=dg.StaticPartitionsDefinition(["10:00"]))
def dim_staff(context: dg.AssetExecutionContext) -> None:
    context.log.info("made", extra={"rows": 20})
    raise ConnectionError("nobody answers")


@pytest.fixture
def lines(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    """What is on stdout of a run that logs and fails, under `deploy/dagster.yaml`."""
    deployed = yaml.safe_load((ROOT / "deploy" / "dagster.yaml").read_text())
    with (
        pytest.warns(dg.BetaWarning, match="yaml-defined logging"),
        dg.instance_for_test(overrides={"python_logs": deployed["python_logs"]}) as instance,
    ):
        dg.materialize([dim_staff], instance=instance, partition_key="10:00", raise_on_error=False)
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_a_line_of_a_run_tells_run_partition_asset_and_the_facts(lines: list[dict[str, Any]]) -> None:
    line = next(line for line in lines if line["message"] == "made")
    assert line.keys() == {
        "timestamp",
        "level",
        "logger",
        "message",
        "run",
        "job",
        "partition",
        "step",
        "asset",
        "rows",
    }
    assert (line["level"], line["partition"], line["asset"], line["rows"]) == (
        "INFO",
        "10:00",
        "transformation/dim_staff",
        20,
    )


def test_a_failure_is_one_line_with_its_traceback(lines: list[dict[str, Any]]) -> None:
    [line] = [line for line in lines if line.get("event") == "STEP_FAILURE"]
    assert line["level"] == "ERROR", "it is retried, or told by `alerts`: nobody must act on this line"
    assert "ConnectionError: nobody answers" in line["traceback"]
    assert "in dim_staff" in line["traceback"]


def test_a_record_outside_of_runs_has_its_facts_and_traceback() -> None:
    try:
        raise ValueError("no")
    except ValueError:
        record = logging.getLogger("etl_assets.alerts").makeRecord(
            "etl_assets.alerts",
            logging.CRITICAL,
            "f",
            1,
            "%s failed",
            ("etl",),
            sys.exc_info(),
            extra={"alert": {"job": "etl"}},
        )
    line = json.loads(JsonFormatter().format(record))
    assert (line["level"], line["message"], line["alert"]) == ("CRITICAL", "etl failed", {"job": "etl"})
    assert line["traceback"].endswith("ValueError: no")


def test_no_fact_costs_a_line_or_takes_the_place_of_another() -> None:
    odd = {"rows": float("nan"), "level": "hi", "name_": "\ud800", "nested": {("a", 1): 2}}
    record = logging.makeLogRecord({"msg": "x", "levelname": "INFO"} | odd)
    line = json.loads(JsonFormatter().format(record).encode())
    assert (line["level"], line["message"], line["rows"]) == ("INFO", "x", "nan")


def test_alerts_go_to_stdout_as_json_where_that_is_asked_for() -> None:
    program = """
import logging
import etl_assets.definitions
logging.getLogger("etl_assets.alerts").critical("totesys ETL: etl failed")
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, env={"LOG_FORMAT": "json", "PATH": ""}
    )
    assert json.loads(done.stdout)["message"] == "totesys ETL: etl failed", done.stderr
