"""CloudWatch metrics of each load. The alarm on missing metrics works even when Dagster is down."""

import os
from collections.abc import Mapping, Sequence
from typing import Any

import boto3
import dagster as dg
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from etl_assets.adapters.settings import Variable

SECONDS_FROM_CAPTURE_TO_LOAD = "SecondsFromCaptureToLoad"
ROWS_LOADED = "RowsLoaded"

_CONFIG = Config(connect_timeout=3, read_timeout=5, retries={"mode": "standard", "max_attempts": 2})


def publish_load(context: dg.AssetExecutionContext | dg.OpExecutionContext, ages: Sequence[float], rows: int) -> None:
    """Publish the age of each loaded capture, in seconds, and the number of changed rows, if METRICS_NAMESPACE is set.

    A failure is logged as a warning and does not fail the load: the alarm on missing metrics is the alert.
    """
    namespace = os.environ.get(Variable.METRICS_NAMESPACE)
    if not namespace:
        return
    try:
        put(
            namespace,
            *({"MetricName": SECONDS_FROM_CAPTURE_TO_LOAD, "Value": age, "Unit": "Seconds"} for age in ages),
            {"MetricName": ROWS_LOADED, "Value": rows, "Unit": "Count"},
        )
    except (BotoCoreError, ClientError) as error:
        context.log.warning(f"publishing the metrics of the load to CloudWatch failed: {error}")


def put(namespace: str, *data: Mapping[str, Any]) -> None:
    """Publish metrics.

    Raises:
        ClientError, BotoCoreError: CloudWatch does not accept them.
    """
    boto3.client("cloudwatch", config=_CONFIG).put_metric_data(Namespace=namespace, MetricData=data)
