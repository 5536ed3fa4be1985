"""The configuration of `deploy/terraform`, applied once to a simulated AWS (moto)."""

import os
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import boto3
import pytest
from moto.core.models import DEFAULT_ACCOUNT_ID

from etl_assets_tests.deploy import iam, terraform
from etl_assets_tests.deploy.calls import Recorder, moto_server
from etl_assets_tests.deploy.terraform import Root

NAME, REGION, ACCOUNT = "totesys-etl-dev", "eu-west-2", DEFAULT_ACCOUNT_ID
SERVICES = ("code-server", "daemon", "webserver")
STAGES = ("ingestion", "transformation", "warehouse")
RUNS = ("run", *(f"run-{stage}" for stage in STAGES))
PARTS = (*SERVICES, *RUNS)
LOGS = (*SERVICES, "run")
STATES = "states-of-totesys-etl"
REPOSITORY = "octocat@1/totesys-etl@2"
_AWS = {
    "AWS_ACCESS_KEY_ID": "test",
    "AWS_SECRET_ACCESS_KEY": "test",
    "AWS_DEFAULT_REGION": REGION,
    "AWS_REGION": REGION,
    "AWS_MAX_ATTEMPTS": "2",  # calls that moto does not support fail quickly
    "AWS_EC2_METADATA_DISABLED": "true",
}


@dataclass(frozen=True)
class Applied:
    """The applied configuration: its roots by name, and the AWS they are applied to."""

    roots: dict[str, Root]
    endpoint: str
    recorder: Recorder


def as_github(root: Root, workflow: str) -> Root:
    """Return the root with the role of a GitHub workflow."""
    keys = iam.assume(boto3.client("sts"), f"arn:aws:iam::{ACCOUNT}:role/totesys-etl-github-{workflow}", workflow)
    return replace(root, environment={**root.environment, **keys})


@pytest.fixture(scope="session")
def simulated_aws() -> Iterator[tuple[str, Recorder]]:
    """The URL of a moto server, which is in the environment, and the recorder of its calls."""
    recorder = Recorder()
    with moto_server(recorder) as endpoint, pytest.MonkeyPatch.context() as environment:
        for name, value in {**_AWS, "AWS_ENDPOINT_URL": endpoint}.items():
            environment.setenv(name, value)
        yield endpoint, recorder


def initialized_roots(folder: Path, environment: str, states: str) -> dict[str, Root]:
    """Copy the configuration to a folder, and initialize its roots for an environment. Return them by name.

    Their states are in a new bucket. Without Terraform or its provider, the test is skipped.
    """
    if not shutil.which("terraform"):
        pytest.skip("terraform is not installed")
    region = os.environ["AWS_REGION"]
    boto3.client("s3").create_bucket(Bucket=states, CreateBucketConfiguration={"LocationConstraint": region})
    roots = terraform.copy(folder, os.environ)
    try:
        roots["state"].init()
    except terraform.TerraformError as error:
        if "registry" in str(error):
            pytest.skip("the AWS provider of Terraform is not installed and cannot be downloaded")
        raise
    for name in ("permanent", "platform"):
        roots[name].init(f"region={region}", f"bucket={states}", f"key={environment}/{name}.tfstate")
        roots[name] = Root(roots[name].folder, roots[name].environment, (f"-var-file={environment}.tfvars",))
    return roots


@pytest.fixture(scope="session")
def roots(simulated_aws: tuple[str, Recorder], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Root]:
    """The initialized roots of the configuration, with their states in a bucket."""
    roots = initialized_roots(tmp_path_factory.mktemp("terraform") / "configuration", "dev", "states")
    certificate = boto3.client("acm").request_certificate(DomainName="dagster.dev.example.com")["CertificateArn"]
    return roots | {
        "state": roots["state"].with_variables(
            f"region={REGION}",
            f"bucket={STATES}",
            f"github_repository={REPOSITORY}",
            'github_environments={deploy="dev"}',
        ),
        "platform": roots["platform"].with_variables(
            "image_tag=v1",
            "state_bucket=states",
            f'balancer={{host="dagster.dev.example.com",certificate_arn="{certificate}"}}',
            # moto gives every RDS instance the same resource id, so the provider would find two
            "warehouse=null",
            'settings={AUTOMATION="off",ETL_CRON="* * * * *"}',
        ),
    }


@pytest.fixture(scope="session")
def applied(roots: dict[str, Root], simulated_aws: tuple[str, Recorder]) -> Iterator[Applied]:
    """The applied configuration. At the end, `platform` is destroyed."""
    with ThreadPoolExecutor() as threads:
        state = threads.submit(roots["state"].apply)
        roots["permanent"].apply()
        as_github(roots["platform"], "deploy").apply()
        state.result()
    yield Applied(roots, *simulated_aws)
    roots["platform"].destroy()
    buckets = {bucket["Name"] for bucket in boto3.client("s3").list_buckets()["Buckets"]}
    assert {bucket for bucket in buckets if "small" not in bucket} == {
        "states",
        STATES,
        *(f"{NAME}-{stage}-{ACCOUNT}" for stage in ("ingestion", "transformation")),
    }
    [cluster] = boto3.client("ecs").describe_clusters(clusters=[NAME])["clusters"]
    assert cluster["status"] == "INACTIVE"
    assert boto3.client("rds").describe_db_instances()["DBInstances"] == []
