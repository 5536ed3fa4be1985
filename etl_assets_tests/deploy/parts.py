"""What the simulated ECS needs besides: databases with passwords, buckets that moto lets in to, Dagster's settings."""

import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import boto3
import yaml

from etl_assets.adapters.postgres import connect
from etl_assets.simulator import postgres
from etl_assets_tests.e2e.services import Server
from etl_assets_tests.harness import ROOT

HOMES = ("machine", "ecs", "ecs-few", "together")
"""The values of DAGSTER_HOME in the image, below /opt/dagster."""


@contextmanager
def without_policy(bucket: str) -> Iterator[None]:
    s3 = boto3.client("s3")
    policy = s3.get_bucket_policy(Bucket=bucket)["Policy"]
    s3.delete_bucket_policy(Bucket=bucket)
    yield
    s3.put_bucket_policy(Bucket=bucket, Policy=policy)


def require_passwords(server: Server) -> None:
    with connect(server.url("postgres")) as connection:
        connection.run("ALTER ROLE postgres PASSWORD 's3cret'")
        settings = postgres.data_folder(server.home) / "data" / "pg_hba.conf"
        settings.write_text("local all all trust\nhost all all 127.0.0.1/32 scram-sha-256\n")
        connection.run("SELECT pg_reload_conf()")


def create_database(server: Server, database: str, owner: str, password: str) -> None:
    """Create a database, and its owner, who may create others, as the owner of an RDS instance may."""
    with connect(server.url("postgres")) as connection:
        connection.run(f"CREATE ROLE {owner} LOGIN CREATEDB PASSWORD '{password}'")
        connection.run(f"CREATE DATABASE {database} OWNER {owner}")


def dagster_settings(folder: Path) -> dict[str, dict[str, Any]]:
    """Return the settings of each Dagster home of the image, made in a folder by the commands of the Dockerfile."""
    instructions = re.findall(r"^RUN (?:.*\\\n)*.*", (ROOT / "deploy" / "Dockerfile").read_text(), re.MULTILINE)
    [command] = [each.removeprefix("RUN ") for each in instructions if "/image/dagster" in each and "chmod" not in each]
    subprocess.run(["sh", "-euc", command.replace("/image/", f"{folder}/")], cwd=ROOT, check=True)
    return {home: yaml.safe_load((folder / "dagster" / home / "dagster.yaml").read_text()) for home in HOMES}


def create_dagster_home(folder: Path, home: str) -> Path:
    """Create a Dagster home of the image, with shorter intervals. Return it."""
    settings = dagster_settings(folder)[home]
    settings["run_monitoring"] |= {"poll_interval_seconds": 2, "start_timeout_seconds": 30}
    settings["compute_logs"]["config"]["upload_interval"] = 1  # of short runs too
    (folder / "dagster" / home / "dagster.yaml").write_text(yaml.safe_dump(settings))
    return folder / "dagster" / home
