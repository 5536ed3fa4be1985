"""The image of `deploy/Dockerfile`, built on a replacement of its base image, and run."""

import json
import re
import ssl
import tomllib
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from itertools import chain
from pathlib import Path
from time import monotonic

import pytest
import yaml

from etl_assets.adapters.postgres import connect
from etl_assets.simulator import postgres
from etl_assets_tests.deploy import containers
from etl_assets_tests.deploy.conftest import SERVICES
from etl_assets_tests.deploy.containers import Container, Containers
from etl_assets_tests.deploy.parts import HOMES, dagster_settings
from etl_assets_tests.e2e.services import Server, free_port
from etl_assets_tests.harness import ROOT, until

pytestmark = pytest.mark.deploy

IMAGE = "localhost/totesys-etl:test"
BASE = "docker.io/library/python:{PYTHON_VERSION}-slim-{DEBIAN}"
DEPLOY = ROOT / "deploy"


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Containers]:
    if missing := containers.missing_requirements():
        pytest.skip(f"building the image needs {', '.join(missing)}")
    arguments = dict(re.findall(r"^ARG (\w+)=(.+)$", (DEPLOY / "Dockerfile").read_text(), re.MULTILINE))
    images = Containers(tmp_path_factory.mktemp("image"))
    with images.temporary_storage():
        images.build_base(BASE.format(**arguments), arguments["DEBIAN"])
        images.build(DEPLOY / "Dockerfile", ROOT, IMAGE, REVISION="deadbeef")
        yield images


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    running = Server(tmp_path_factory.mktemp("server"))
    running.start()
    yield running
    running.stop()
    postgres.remove(running.home)


def test_the_declared_packages_are_installed_without_those_of_the_tests(image: Containers) -> None:
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())
    code = "import json, importlib.metadata as m; print(json.dumps([each.name for each in m.distributions()]))"
    completed = image.run(IMAGE, "python", "-c", code)
    assert completed.returncode == 0, completed.stderr
    installed = set(json.loads(completed.stdout))
    project, extras = declared["project"], chain(*declared["project"]["optional-dependencies"].values())
    required, not_required = (
        {re.split(r"[\[<>=]", requirement)[0] for requirement in requirements} - {"etl-assets"}
        for requirements in (project["dependencies"], [*declared["dependency-groups"]["dev"], *extras])
    )
    assert required | {"etl-assets"} <= {name.lower().replace("_", "-") for name in installed}
    assert installed & {*not_required, "pip", "uv"} == set()


def test_only_tmp_is_writable(image: Containers) -> None:
    folders = ["/", "/etc", "/opt/dagster/machine/storage", "/opt/venv", "/var/tmp"]
    command = f"id -u; touch /tmp/x; for folder in {' '.join(folders)}; do touch $folder/x; done"
    completed = image.run(IMAGE, "sh", "-c", command)
    assert completed.stdout == "1000\n"
    assert completed.stderr.count("Read-only file system") == len(folders)


def test_no_file_is_writable_even_without_a_read_only_root(image: Containers) -> None:
    writable = image.podman(
        "run", "--rm", "--network=none", IMAGE, "find", "/opt", "/usr", "/etc", "-writable", "!", "-type", "l"
    )
    assert writable.stdout.split() == ["/opt/dagster/machine/storage"]


def test_the_certificate_authorities_of_rds_are_valid_for_a_year(image: Containers, tmp_path: Path) -> None:
    (tmp_path / "rds.pem").write_text(image.run(IMAGE, "cat", "/opt/certificates/rds.pem").stdout)
    authorities = ssl.create_default_context(cafile=tmp_path / "rds.pem").get_ca_certs()
    expiries = [datetime.fromtimestamp(ssl.cert_time_to_seconds(str(each["notAfter"])), UTC) for each in authorities]
    assert any("RDS eu-west-2" in str(each["subject"]) for each in authorities)
    assert min(expiries) > datetime.now(UTC) + timedelta(days=365)


def test_the_dagster_settings_are_those_of_the_repository(image: Containers, tmp_path: Path) -> None:
    homes = {home: yaml.safe_load(image.run(IMAGE, "cat", f"{home}/dagster.yaml").stdout) for home in HOMES}
    assert homes == dagster_settings(tmp_path)


def test_a_label_has_the_revision(image: Containers) -> None:
    labels = image.podman("inspect", "--format={{json .Labels}}", IMAGE).stdout
    assert json.loads(labels)["org.opencontainers.image.revision"] == "deadbeef"


def test_the_parts_load_the_warehouse_and_stop_on_sigterm(
    image: Containers, server: Server, figures: Callable[..., None]
) -> None:
    services = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]
    ports = {"4000": str(free_port()), "3000": str(free_port())}

    def local(words: list[str]) -> list[str]:
        return [
            re.sub("4000|3000", lambda port: ports[port[0]], word).replace("0.0.0.0", "127.0.0.1") for word in words
        ]

    environment = services["code-server"]["environment"] | {
        "DAGSTER_POSTGRES_HOST": "127.0.0.1",
        "DAGSTER_POSTGRES_PORT": str(server.port),
        "CODE_SERVER_HOST": "127.0.0.1",
        "CODE_SERVER_PORT": ports["4000"],
        "TOTESYS_DATABASE_URL": server.create("totesys"),
        "WAREHOUSE_DATABASE_URL": server.create("warehouse"),
        "INGESTION_URL": "file:///tmp/ingestion",
        "TRANSFORMATION_URL": "file:///tmp/transformation",
        "ALERTS_TOPIC_ARN": "",
    }
    server.create("dagster")
    prepare = f"""
        python -m etl_assets.simulator past --start {date.today() - timedelta(days=7)}
        dagster instance migrate
        dagster instance concurrency set etl 1
    """
    prepared = image.run(IMAGE, "sh", "-euc", prepare, environment=environment)
    assert prepared.returncode == 0, prepared.stderr

    parts: dict[str, Container] = {}

    def healthy(part: str) -> bool:
        return parts[part].run(*local(services[part]["healthcheck"]["test"][1:])).returncode == 0

    def count_loads() -> int:
        with connect(environment["WAREHOUSE_DATABASE_URL"]) as warehouse:
            [[exists]] = warehouse.run("SELECT to_regclass('warehouse.loads') IS NOT NULL")
            return int(warehouse.run("SELECT count(*) FROM warehouse.loads")[0][0]) if exists else 0

    try:
        for part in SERVICES:
            parts[part] = image.start(part, IMAGE, *local(services[part]["command"]), environment=environment)
            if part == "code-server":
                until(lambda: healthy("code-server"))
        until(count_loads, seconds=120)
        page = "ls /tmp/transformation/reports/*.html"  # charts are drawn without network, fonts or a home folder
        until(lambda: parts["code-server"].run("sh", "-c", page).returncode == 0, seconds=180)
        assert all(healthy(part) for part in SERVICES)
    except AssertionError as error:
        pytest.fail("\n".join([str(error), *(container.log for container in parts.values())]))

    for name, container in reversed(parts.items()):
        started = monotonic()
        assert container.stop(seconds=30) == 0, container.log
        figures(**{f"milliseconds_to_stop_the_{name.replace('-', '_')}": int(1000 * (monotonic() - started))})
