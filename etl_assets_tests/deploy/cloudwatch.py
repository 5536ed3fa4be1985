"""CloudWatch's filters and alarms, read from a simulated AWS (moto), which does not evaluate them."""

import json
import re
from collections.abc import Iterable
from typing import Any

import boto3

_COMPARISON = re.compile(r'\(?\$\.(\w+) (=|!=) "([^"]*)"\)?')
_ALARM = re.compile(r'(NOT )?ALARM\("([^"]+)"\)')


def metric_filters(**of: str) -> list[dict[str, Any]]:
    return list(boto3.client("logs").describe_metric_filters(**of)["metricFilters"])


def counted(metric: str, log_group: str, lines: Iterable[str]) -> list[dict[str, Any]]:
    """Return the lines of a log group that are counted by a metric."""
    patterns = [
        each["filterPattern"]
        for each in metric_filters(logGroupName=log_group)
        if each["metricTransformations"][0]["metricName"] == metric
    ]
    return [json.loads(line) for line in lines if any(_matches(pattern, line) for pattern in patterns)]


def _matches(pattern: str, line: str) -> bool:
    """Whether a line matches a filter pattern: comparisons of fields with text, joined by `&&`.

    A field that a line does not have matches no comparison, not even `!=`; nor does a line that is not JSON.
    """
    try:
        fields = json.loads(line)
    except ValueError:
        return False
    comparisons = [_COMPARISON.fullmatch(part) for part in pattern.removeprefix("{ ").removesuffix(" }").split(" && ")]
    assert all(comparisons), pattern
    return all(
        match[1] in fields and (fields[match[1]] == match[3]) == (match[2] == "=") for match in comparisons if match
    )


def alarms(kind: str) -> dict[str, dict[str, Any]]:
    """Return the alarms of a kind, `MetricAlarm` or `CompositeAlarm`, by name."""
    pages = boto3.client("cloudwatch").get_paginator("describe_alarms").paginate(AlarmTypes=[kind])
    return {alarm["AlarmName"]: alarm for page in pages for alarm in page[f"{kind}s"]}


def messages(raised: set[str]) -> set[str]:
    """Return the alarms that send a message while the metric alarms `raised` are in ALARM."""
    metric_alarms = alarms("MetricAlarm")
    assert raised <= metric_alarms.keys(), raised - metric_alarms.keys()
    return {name for name in raised if metric_alarms[name]["AlarmActions"]} | {
        name for name, alarm in alarms("CompositeAlarm").items() if alarm["AlarmActions"] and _holds(alarm, raised)
    }


def _holds(alarm: dict[str, Any], raised: set[str]) -> bool:
    """Whether the rule of a composite alarm holds: `ALARM("…")` and `NOT ALARM("…")`, joined by `AND`."""
    terms = [_ALARM.fullmatch(term) for term in alarm["AlarmRule"].split(" AND ")]
    assert all(terms), alarm["AlarmRule"]
    return all((match[2] in raised) != bool(match[1]) for match in terms if match)
