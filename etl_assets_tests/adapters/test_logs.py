"""Log lines as JSON."""

import hashlib
import json
import logging
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import yaml

from etl_assets.adapters.logs import JsonFormatter
from etl_assets.ingestion.manifest import partition_folder
from etl_assets_tests.harness import ROOT, Platform
from etl_assets_tests.pipeline import STAR


@dg.asset(key=["transformation", "dim_staff"], partitions_def=dg.StaticPartitionsDefinition(["10:00"]))
def dim_staff(context: dg.AssetExecutionContext) -> None:
    context.log.info("rows written", extra={"rows": 20})
    raise ConnectionError("nobody answers")


@contextmanager
def deployed_logs() -> Iterator[dg.DagsterInstance]:
    """A Dagster instance whose runs log as `deploy/dagster.yaml` says."""
    deployed = yaml.safe_load((ROOT / "deploy" / "dagster.yaml").read_text())
    with (
        pytest.warns(dg.BetaWarning, match="yaml-defined logging"),
        dg.instance_for_test(overrides={"python_logs": deployed["python_logs"]}) as instance,
    ):
        yield instance


@pytest.fixture
def lines(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    """The lines on stdout of a run that logs and fails, with the settings of `deploy/dagster.yaml`."""
    with deployed_logs() as instance:
        dg.materialize([dim_staff], instance=instance, partition_key="10:00", raise_on_error=False)
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_a_line_of_a_run_has_its_run_partition_stage_and_extras(lines: list[dict[str, Any]]) -> None:
    line = next(line for line in lines if line["message"] == "rows written")
    fields = {"timestamp", "level", "logger", "message", "run", "job", "partition", "step", "stage", "rows"}
    assert line.keys() == fields
    assert (line["level"], line["partition"], line["rows"]) == ("INFO", "10:00", 20)
    assert (line["step"], line["stage"]) == ("transformation__dim_staff", "transformation")


def test_a_failure_is_one_line_with_its_traceback(lines: list[dict[str, Any]]) -> None:
    [line] = [line for line in lines if line.get("event") == "STEP_FAILURE"]
    assert line["level"] == "ERROR", "no CRITICAL line: the step is retried, or the `alerts` sensor reports it"
    assert "ConnectionError: nobody answers" in line["traceback"]
    assert "in dim_staff" in line["traceback"]


def test_a_record_outside_of_runs_has_its_extras_and_traceback() -> None:
    logger, extra = logging.getLogger("etl_assets.alerts"), {"alert": {"job": "etl"}}
    try:
        raise ValueError("no")
    except ValueError:
        error = sys.exc_info()
    record = logger.makeRecord(logger.name, logging.CRITICAL, "f", 1, "%s failed", ("etl",), error, extra=extra)
    line = json.loads(JsonFormatter().format(record))
    assert (line["level"], line["message"], line["alert"]) == ("CRITICAL", "etl failed", {"job": "etl"})
    assert line["traceback"].endswith("ValueError: no")


def test_no_extra_loses_a_line_or_replaces_a_field() -> None:
    odd = {"rows": float("nan"), "level": "hi", "name_": "\ud800", "nested": {("a", 1): 2}}
    record = logging.makeLogRecord({"msg": "x", "levelname": "INFO"} | odd)
    line = json.loads(JsonFormatter().format(record).encode())
    assert (line["level"], line["message"], line["rows"]) == ("INFO", "x", "nan")


def test_alerts_go_to_stdout_as_json_if_log_format_is_json() -> None:
    program = """
import logging
import etl_assets.definitions
logging.getLogger("etl_assets.alerts").critical("totesys ETL: etl failed")
"""
    completed = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, env={"LOG_FORMAT": "json", "PATH": ""}
    )
    assert json.loads(completed.stdout)["message"] == "totesys ETL: etl failed", completed.stderr


def test_each_object_and_each_loaded_table_is_a_line_of_json(
    platform: Platform, capsys: pytest.CaptureFixture[str]
) -> None:
    with deployed_logs() as instance:
        platform.run()
        capsys.readouterr()
        platform.next_window()
        platform.totesys("UPDATE sales_order SET units_sold = 7, agreed_payment_date = 'soon' WHERE sales_order_id = 1")
        result = platform.run(full_capture=True, instance=instance)
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    objects = {
        f"file://{path}": path.read_bytes()
        for url in (platform.ingestion_url, platform.transformation_url)
        for path in Path(url.removeprefix("file://")).rglob("*.*")
        if partition_folder("", platform.partition) in str(path) and path.suffix in (".csv", ".parquet")
    }
    written = {line["uri"]: line for line in lines if "sha256" in line}
    assert written.keys() == objects.keys()
    assert sum("/rejected/" in uri for uri in written) == 1
    for uri, line in written.items():
        assert (line["bytes"], line["sha256"]) == (len(objects[uri]), hashlib.sha256(objects[uri]).hexdigest())
        assert line["table"] in uri
        assert all(capture.startswith(platform.partition) for capture in line["captures"])
        assert (line["partition"], line["level"]) == (platform.partition, "INFO")
    shown = {
        uri
        for event in result.get_asset_materialization_events()
        if "uris" in event.materialization.metadata
        for uri in event.materialization.metadata["uris"].value  # type: ignore[union-attr]
    }
    assert shown == objects.keys()
    loaded = {line["table"]: line for line in lines if "rows_read" in line}
    assert loaded.keys() == {star.name for star in STAR.values()}
    assert (loaded["fact_sales_order"]["rejected"], loaded["fact_payment"]["rows"]) == (1, 0)


def test_a_line_of_a_run_over_several_partitions_names_the_partition_it_is_about() -> None:
    tags = {"dagster/asset_partition_range_start": "2024-08-14-14:15"}
    record = logging.makeLogRecord(
        {"msg": "wrote", "partition": "2024-08-14-14:30", "dagster_meta": {"job_tags": tags}}
    )
    assert json.loads(JsonFormatter().format(record))["partition"] == "2024-08-14-14:30"
