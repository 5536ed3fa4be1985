"""The configuration of `deploy/terraform`, applied once to a pretended AWS."""

import os
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import boto3
import pytest
from moto.core.models import DEFAULT_ACCOUNT_ID

from etl_assets_tests.deploy import iam, terraform
from etl_assets_tests.deploy.calls import Recorder, moto_server
from etl_assets_tests.deploy.terraform import Root

NAME, REGION, ACCOUNT = "totesys-etl-dev", "eu-west-2", DEFAULT_ACCOUNT_ID
PARTS = ("code-server", "daemon", "run", "webserver")
SERVICES = ("code-server", "daemon", "webserver")
STATES = "states-of-totesys-etl"
REPOSITORY = "octocat@1/totesys-etl@2"
_AWS = {
    "AWS_ACCESS_KEY_ID": "test",
    "AWS_SECRET_ACCESS_KEY": "test",
    "AWS_DEFAULT_REGION": REGION,
    "AWS_REGION": REGION,
    "AWS_MAX_ATTEMPTS": "2",  # what moto lacks fails at once
    "AWS_EC2_METADATA_DISABLED": "true",
}


@dataclass(frozen=True)
class Applied:
    """An applied configuration: its roots by name, and the AWS it was applied to."""

    roots: dict[str, Root]
    endpoint: str
    recorder: Recorder


def by_github(root: Root, does: str) -> Root:
    """The root, run by a role of GitHub's workflows."""
    keys = iam.assume(boto3.client("sts"), f"arn:aws:iam::{ACCOUNT}:role/totesys-etl-github-{does}", does)
    return replace(root, environment={**root.environment, **keys})


@pytest.fixture(scope="session")
def pretended_aws() -> Iterator[tuple[str, Recorder]]:
    """The URL of a moto server, which is in the environment, and what it is asked."""
    recorder = Recorder()
    with moto_server(recorder) as endpoint, pytest.MonkeyPatch.context() as environment:
        for name, value in {**_AWS, "AWS_ENDPOINT_URL": endpoint}.items():
            environment.setenv(name, value)
        yield endpoint, recorder


@pytest.fixture(scope="session")
def roots(pretended_aws: tuple[str, Recorder], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Root]:
    """The configuration's roots, initialized; their states are in a bucket."""
    if not shutil.which("terraform"):
        pytest.skip("no terraform on this machine: the configuration is not tried")
    boto3.client("s3").create_bucket(Bucket="states", CreateBucketConfiguration={"LocationConstraint": REGION})
    certificate = boto3.client("acm").request_certificate(DomainName="dagster.dev.example.com")["CertificateArn"]
    roots = terraform.copy(tmp_path_factory.mktemp("terraform") / "configuration", os.environ)
    try:
        roots["state"].init()
    except terraform.TerraformError as error:
        if "registry" in str(error):
            pytest.skip("no AWS provider on this machine, and none can be fetched: the configuration is not tried")
        raise
    for name in ("permanent", "platform"):
        roots[name].init(f"region={REGION}", "bucket=states", f"key=dev/{name}.tfstate")
        roots[name] = Root(roots[name].folder, roots[name].environment, ("-var-file=dev.tfvars",))
    return roots | {
        "state": roots["state"].given(
            f"region={REGION}",
            f"bucket={STATES}",
            f"github_repository={REPOSITORY}",
            'github_environments={deploy="dev"}',
        ),
        "platform": roots["platform"].given(
            "image_tag=v1",
            "state_bucket=states",
            f'balancer={{host="dagster.dev.example.com",certificate_arn="{certificate}"}}',
            # moto gives every instance of RDS the same resource id, so that the provider finds two
            "warehouse=null",
            'settings={AUTOMATION="off",ETL_CRON="* * * * *"}',
        ),
    }


@pytest.fixture(scope="session")
def applied(roots: dict[str, Root], pretended_aws: tuple[str, Recorder]) -> Iterator[Applied]:
    """The configuration, applied; at the end what can be destroyed is."""
    with ThreadPoolExecutor() as threads:
        state = threads.submit(roots["state"].apply)
        roots["permanent"].apply()
        by_github(roots["platform"], "deploy").apply()
        state.result()
    yield Applied(roots, *pretended_aws)
    roots["platform"].destroy()
    left = {bucket["Name"] for bucket in boto3.client("s3").list_buckets()["Buckets"]}
    assert left == {"states", STATES, *(f"{NAME}-{stage}-{ACCOUNT}" for stage in ("ingestion", "transformation"))}
    [cluster] = boto3.client("ecs").describe_clusters(clusters=[NAME])["clusters"]
    assert cluster["status"] == "INACTIVE"
    assert boto3.client("rds").describe_db_instances()["DBInstances"] == []
