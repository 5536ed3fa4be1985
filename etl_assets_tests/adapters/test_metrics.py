"""CloudWatch metrics of each load."""

from datetime import UTC, datetime, timedelta
from typing import Any

import boto3
import pytest

from etl_assets.adapters.metrics import ROWS_LOADED, SECONDS_FROM_CAPTURE_TO_LOAD
from etl_assets_tests.harness import Platform


@pytest.fixture
def namespace(s3_bucket: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """A namespace for this test. moto serves CloudWatch as well as S3."""
    name = f"totesys-{request.node.name}"
    monkeypatch.setenv("METRICS_NAMESPACE", name)
    return name


def datapoints(namespace: str, metric: str) -> list[dict[str, Any]]:
    now = datetime.now(UTC)
    response = boto3.client("cloudwatch").get_metric_statistics(
        Namespace=namespace,
        MetricName=metric,
        StartTime=now - timedelta(hours=1),
        EndTime=now + timedelta(hours=1),
        Period=86400,
        Statistics=["Sum", "SampleCount"],
    )
    return list(response["Datapoints"])


def test_a_load_publishes_its_age_and_rows_and_a_replay_publishes_nothing(platform: Platform, namespace: str) -> None:
    platform.run()
    platform.run("transformation", "warehouse")
    [rows], [seconds] = datapoints(namespace, ROWS_LOADED), datapoints(namespace, SECONDS_FROM_CAPTURE_TO_LOAD)
    assert (rows["SampleCount"], rows["Sum"]) == (1, sum(platform.row_counts().values()))
    assert seconds["SampleCount"] == 1
    assert 0 < seconds["Sum"] < 120


def test_a_load_of_two_captures_publishes_its_rows_once(platform: Platform, namespace: str) -> None:
    platform.run()
    platform.next_window()
    platform.totesys("UPDATE design SET file_name = 'new' WHERE design_id = 1")
    platform.run(full_capture=True)
    [rows], [seconds] = datapoints(namespace, ROWS_LOADED), datapoints(namespace, SECONDS_FROM_CAPTURE_TO_LOAD)
    assert (rows["SampleCount"], rows["Sum"]) == (2, sum(platform.row_counts().values()) + 1)
    assert seconds["SampleCount"] == 3


def test_without_a_namespace_nothing_is_published(platform: Platform, s3_bucket: str) -> None:
    before = boto3.client("cloudwatch").list_metrics()["Metrics"]
    platform.run()
    assert boto3.client("cloudwatch").list_metrics()["Metrics"] == before


def test_a_load_succeeds_when_cloudwatch_is_down(
    platform: Platform, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    assert platform.run().success
    assert platform.warehouse("SELECT count(*) FROM warehouse.loads") == [[1]]
