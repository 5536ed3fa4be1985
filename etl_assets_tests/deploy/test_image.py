"""The image of `deploy/Dockerfile`, built and run: on a stand-in for its base, which is not to be had everywhere."""

import json
import re
import ssl
import tomllib
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from time import monotonic
from typing import Any

import pytest
import yaml

from etl_assets.databases import connect
from etl_assets.simulator import postgres
from etl_assets_tests.deploy import containers
from etl_assets_tests.deploy.containers import Container, Containers
from etl_assets_tests.e2e.services import ROOT, Server, free_port
from etl_assets_tests.platform import until

pytestmark = pytest.mark.deploy

IMAGE = "localhost/totesys-etl:test"
PARTS = ("code-server", "webserver", "daemon")
BASE = "docker.io/library/python:{PYTHON_VERSION}-slim-{DEBIAN}"
DEPLOY = ROOT / "deploy"


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Containers]:
    if lacking := containers.missing():
        pytest.skip(f"the image is not tried: no {', no '.join(lacking)}")
    arguments = dict(re.findall(r"^ARG (\w+)=(.+)$", (DEPLOY / "Dockerfile").read_text(), re.MULTILINE))
    made = Containers(tmp_path_factory.mktemp("image"))
    with made.kept():
        made.stand_in_for(BASE.format(**arguments), arguments["DEBIAN"])
        made.build(DEPLOY / "Dockerfile", ROOT, IMAGE, REVISION="deadbeef")
        yield made


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    made = Server(tmp_path_factory.mktemp("server"))
    made.start()
    yield made
    made.stop()
    postgres.remove(made.home)


def python(image: Containers, code: str) -> Any:
    """What a line of Python prints in the image, as JSON."""
    told = image.run(IMAGE, "python", "-c", f"import json; {code}")
    assert told.returncode == 0, told.stderr
    return json.loads(told.stdout)


def test_what_is_installed_is_what_the_project_declares(image: Containers) -> None:
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())
    installed = set(
        python(image, "from importlib.metadata import distributions as d; print(json.dumps([x.name for x in d()]))")
    )
    needed, for_tests = (
        {re.split(r"[\[<>=]", requirement)[0] for requirement in requirements}
        for requirements in (declared["project"]["dependencies"], declared["dependency-groups"]["dev"])
    )
    assert needed | {"etl-assets"} <= {name.lower().replace("_", "-") for name in installed}
    assert installed & {*for_tests, "pip", "uv"} == set()


def test_nothing_but_tmp_can_be_written_to(image: Containers) -> None:
    places = ["/", "/etc", "/opt/dagster/machine/storage", "/opt/venv", "/var/tmp"]
    tried = image.run(
        IMAGE, "sh", "-c", f"id -u; touch /tmp/x; for place in {' '.join(places)}; do touch $place/x; done"
    )
    assert tried.stdout == "1000\n"
    assert tried.stderr.count("Read-only file system") == len(places)


def test_nothing_can_be_changed_even_without_a_read_only_root(image: Containers) -> None:
    found = image.podman(
        "run", "--rm", "--network=none", IMAGE, "find", "/opt", "/usr", "/etc", "-writable", "!", "-type", "l"
    )
    assert found.stdout.split() == ["/opt/dagster/machine/storage"]


def test_the_certificates_are_authorities_for_years(image: Containers, tmp_path: Path) -> None:
    (tmp_path / "rds.pem").write_text(image.run(IMAGE, "cat", "/opt/certificates/rds.pem").stdout)
    authorities = ssl.create_default_context(cafile=tmp_path / "rds.pem").get_ca_certs()
    ends = [datetime.fromtimestamp(ssl.cert_time_to_seconds(str(one["notAfter"])), UTC) for one in authorities]
    assert any("RDS eu-west-2" in str(one["subject"]) for one in authorities)
    assert min(ends) > datetime.now(UTC) + timedelta(days=365)


def test_the_homes_are_what_is_in_the_repository(image: Containers) -> None:
    common, ecs = (yaml.safe_load((DEPLOY / name).read_text()) for name in ("dagster.yaml", "dagster.ecs.yaml"))
    assert not common.keys() & ecs.keys()
    homes = [yaml.safe_load(image.run(IMAGE, "cat", f"{home}/dagster.yaml").stdout) for home in ("machine", "ecs")]
    assert homes == [common, common | ecs]


def test_it_tells_what_it_was_built_from(image: Containers) -> None:
    told = image.podman("inspect", "--format={{json .Labels}}", IMAGE).stdout
    assert json.loads(told)["org.opencontainers.image.revision"] == "deadbeef"


def test_the_parts_load_the_warehouse_and_end_when_told_to(
    image: Containers, server: Server, figures: Callable[..., None]
) -> None:
    services = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]
    ports = {"4000": str(free_port()), "3000": str(free_port())}

    def here(words: list[str]) -> list[str]:
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
        return parts[part].run(*here(services[part]["healthcheck"]["test"][1:])).returncode == 0

    def loads() -> int:
        with connect(environment["WAREHOUSE_DATABASE_URL"]) as warehouse:
            [[there]] = warehouse.run("SELECT to_regclass('warehouse.loads') IS NOT NULL")
            return int(warehouse.run("SELECT count(*) FROM warehouse.loads")[0][0]) if there else 0

    try:
        for part in PARTS:
            parts[part] = image.start(part, IMAGE, *here(services[part]["command"]), environment=environment)
            if part == "code-server":
                until(lambda: healthy("code-server"))
        until(loads, seconds=120)
        page = "ls /tmp/transformation/reports/*.html"  # drawn where there is neither network nor font nor home
        until(lambda: parts["code-server"].run("sh", "-c", page).returncode == 0, seconds=180)
        assert all(healthy(part) for part in PARTS)
    except AssertionError as error:
        pytest.fail("\n".join([str(error), *(container.log for container in parts.values())]))

    for name, container in reversed(parts.items()):
        told = monotonic()
        assert container.stop(seconds=30) == 0, container.log
        figures(**{f"milliseconds_to_end_the_{name.replace('-', '_')}": int(1000 * (monotonic() - told))})
