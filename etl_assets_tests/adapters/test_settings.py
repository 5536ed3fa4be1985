"""Environment variables: what is refused when the definitions load, and how."""

from datetime import timedelta

import pytest

from etl_assets.adapters.settings import EnvironmentVariableError, Settings
from etl_assets.definitions import definitions

SECRET = "hunter2"


@pytest.mark.parametrize(
    ("variable", "value", "line"),
    [
        ("AUTOMATION", "yes", "AUTOMATION must be on or off, not 'yes'"),
        ("LOG_FORMAT", "xml", "LOG_FORMAT must be json or text, not 'xml'"),
        ("ETL_CRON", "hourly, please", "ETL_CRON must be a cron expression .* not 'hourly, please'"),
        ("FULL_CAPTURE_CRON", "61 * * * *", "FULL_CAPTURE_CRON must be a cron expression .* not '61"),
        ("FRESHNESS_WARN_MINUTES", "soon", "FRESHNESS_WARN_MINUTES must be a whole number of minutes, not 'soon'"),
        ("FRESHNESS_FAIL_MINUTES", "0", "FRESHNESS_FAIL_MINUTES must be a whole number of minutes, not '0'"),
        ("FRESHNESS_FAIL_MINUTES", "30", "FRESHNESS_WARN_MINUTES must be less than FRESHNESS_FAIL_MINUTES"),
        ("ALERTS_TOPIC_ARN", "foo", "ALERTS_TOPIC_ARN must be the ARN of an SNS topic such as arn:.* not 'foo'"),
        ("ALERTS_TOPIC_ARN", "arn:aws:sqs:eu-west-2:123456789012:x", "ALERTS_TOPIC_ARN must be the ARN of an SNS"),
        ("METRICS_NAMESPACE", "AWS/ECS", "METRICS_NAMESPACE must be a CloudWatch namespace .* not 'AWS/ECS'"),
        ("METRICS_NAMESPACE", "größe", "METRICS_NAMESPACE must be a CloudWatch namespace .* not 'größe'"),
        ("RUN_TASK_DEFINITION", "run:7", "RUN_TASK_DEFINITION must be a task definition family .* not 'run:7'"),
        (
            "ACTIVITY_MIN_PAUSE_SECONDS",
            "1.5",
            "ACTIVITY_MIN_PAUSE_SECONDS must be a whole number of seconds, not '1.5'",
        ),
        ("ACTIVITY_MIN_PAUSE_SECONDS", "51", "ACTIVITY_MIN_PAUSE_SECONDS must be at most 50, .* set ETL_CRON"),
        ("DAGSTER_URL", "dagster.example.com", "DAGSTER_URL must be an address such as https://"),
        ("DAGSTER_URL", f"https://u:{SECRET}@example.com", "DAGSTER_URL must be .* without user and password"),
        ("TOTESYS_DATABASE_URL", f"mysql://u:{SECRET}@h/d", "TOTESYS_DATABASE_URL must look like postgresql://"),
        ("WAREHOUSE_DATABASE_URL", f"postgresql://u:{SECRET}@h:x/d", "WAREHOUSE_DATABASE_URL has a port that is not"),
        ("INGESTION_URL", f"s3://u:{SECRET}@bucket", "INGESTION_URL must look like file:///path or s3://"),
        ("TRANSFORMATION_URL", "file://folder", "TRANSFORMATION_URL must look like file:///path or s3://"),
    ],
)
def test_a_malformed_variable_is_refused_in_one_line_that_names_it_and_shows_no_secret(
    variable: str, value: str, line: str
) -> None:
    with pytest.raises(EnvironmentVariableError, match=f"^{line}") as error:
        definitions(settings=Settings.from_environment({variable: value}))
    assert SECRET not in str(error.value)
    assert len(str(error.value).splitlines()) == 1


def test_changes_may_be_gathered_as_long_as_they_are_in_the_warehouse_within_two_minutes() -> None:
    assert Settings.from_environment({"ACTIVITY_MIN_PAUSE_SECONDS": "50"}).activity_min_pause == timedelta(seconds=50)
    as_tasks = {"RUN_TASK_DEFINITION": "totesys-etl-run", "ACTIVITY_MIN_PAUSE_SECONDS": "21"}
    with pytest.raises(
        EnvironmentVariableError, match="must be at most 20, so that a change is in the warehouse within"
    ):
        Settings.from_environment(as_tasks)
    assert Settings.from_environment(as_tasks | {"ACTIVITY_MIN_PAUSE_SECONDS": ""})


def test_well_formed_variables_are_accepted_and_nothing_is_connected_to() -> None:
    nowhere = {
        "TOTESYS_DATABASE_URL": "postgresql://u:p@nowhere.invalid/d?sslmode=require\n",
        "WAREHOUSE_DATABASE_URL": "postgres://u@/d?host=/nowhere",
        "INGESTION_URL": "s3://nowhere/prefix",
        "TRANSFORMATION_URL": "file:///nowhere",
        "DAGSTER_URL": "http://[::1]:3000/etl/",
        "METRICS_NAMESPACE": "totesys-etl dev/1",
        "ALERTS_TOPIC_ARN": "arn:aws-cn:sns:cn-north-1:123456789012:alerts.fifo",
        "RUN_TASK_DEFINITION": "totesys-etl-dev-run",
    }
    settings = Settings.from_environment(nowhere)
    assert (settings.alerts_topic, settings.run_task_definition) == (
        nowhere["ALERTS_TOPIC_ARN"],
        nowhere["RUN_TASK_DEFINITION"],
    )
    assert Settings.from_environment(dict.fromkeys(nowhere, "")) == Settings()
