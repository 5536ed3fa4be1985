"""The demo's folder: what is where, the environment of all that works on it, and who holds it."""

import fcntl
import os
import shlex
import shutil
import signal
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from time import monotonic
from typing import NoReturn

import yaml

from etl_assets.adapters.settings import Variable
from etl_assets.schema.errors import PermanentError
from etl_assets.simulator import postgres

FOLDER = Path(".demo")
POSTGRES = FOLDER / "postgres"
DAGSTER = FOLDER / "dagster"
BUCKETS = FOLDER / "buckets"
PAGE = FOLDER / "reports.html"
LOG = FOLDER / "dagster.log"
ENVIRONMENT = FOLDER / "env"
WORKSPACE = DAGSTER / "workspace.yaml"
TOTESYS, WAREHOUSE_DATABASE = "totesys", "warehouse"
CODE_LOCATION = "etl_assets"
"""What Dagster calls the place of the definitions: as `workspace.yaml` and `[tool.dg]` in `pyproject.toml` do."""

_DAGSTER_YAML = Path(__file__).with_name("dagster.yaml")
_FOR_PRODUCTION_ONLY = ("storage", "python_logs")
_IN_USE, _DATABASES_IN_USE = FOLDER / "in_use", FOLDER / "databases_in_use"


def command(name: str, **options: object) -> str:
    """Return how to run a command of the simulator: with make, if this process was run so, or with Python."""
    if "MAKELEVEL" in os.environ:  # GNU make sets it
        program, written = "make", [f"{option.upper()}={value}" for option, value in options.items()]
    else:
        program, written = (
            "python -m etl_assets.simulator",
            [f"--{option} {value}" for option, value in options.items()],
        )
    return " ".join((program, name, *written))


class InUseError(PermanentError):
    """Another process works on the demo's folder. The message says which, and what to do."""


def create(partitions_start: str) -> None:
    """Create the folder, for a demo whose first partition begins at a moment.

    Raises:
        PermanentError: PostgreSQL is not installed.
    """
    postgres.installed_package()
    DAGSTER.mkdir(parents=True)
    settings = yaml.safe_load(_DAGSTER_YAML.read_text())
    settings = {name: value for name, value in settings.items() if name not in _FOR_PRODUCTION_ONLY}
    (DAGSTER / "dagster.yaml").write_text(yaml.safe_dump(settings))
    location = {"python_module": {"module_name": "etl_assets.definitions", "location_name": CODE_LOCATION}}
    WORKSPACE.write_text(yaml.safe_dump({"load_from": [location]}))
    server, buckets = postgres.server_of(POSTGRES), BUCKETS.resolve().as_uri()
    environment = {
        Variable.TOTESYS_DATABASE_URL: server.url(TOTESYS),
        Variable.WAREHOUSE_DATABASE_URL: server.url(WAREHOUSE_DATABASE),
        Variable.INGESTION_URL: f"{buckets}/ingestion",
        Variable.TRANSFORMATION_URL: f"{buckets}/transformation",
        Variable.PARTITIONS_START: partitions_start,
        "DAGSTER_HOME": str(DAGSTER.resolve()),
        # Whatever a shell was set up for: the demo sends nothing to AWS.
        Variable.ALERTS_TOPIC_ARN: "",
        Variable.METRICS_NAMESPACE: "",
    }
    ENVIRONMENT.write_text("".join(f"export {name}={_quoted(value)}\n" for name, value in environment.items()))


def environment() -> Mapping[str, str]:
    """Return the environment that the folder was created for.

    Raises:
        PermanentError: there is no demo.
    """
    if not ENVIRONMENT.exists():
        raise PermanentError(f"There is no demo in this folder yet. Run `{command('demo')}` first.")
    words = shlex.split(ENVIRONMENT.read_text())
    return dict(word.split("=", 1) for word in words if word != "export")


@contextmanager
def in_use(by: str) -> Iterator[None]:
    """Keep the folder for this process during the block.

    Raises:
        InUseError: another process has it.
    """
    with _locked(_IN_USE, by) as holder:
        if holder:
            raise InUseError(_stop_first(holder))
        yield


@contextmanager
def databases(by: str, *, shared: bool = False) -> Iterator[postgres.Server]:
    """Run the databases during the block. Those that another process runs may be used, if they are to be shared.

    Raises:
        InUseError: another process runs them, and they are not to be shared.
    """
    with _locked(_DATABASES_IN_USE, by) as holder:
        if holder and not shared:
            raise InUseError(f"{holder} runs the databases already: {ENVIRONMENT} has their addresses.")
        if holder:
            yield postgres.server_of(POSTGRES)
            return
        if postgres.is_running(POSTGRES):  # what ran them was killed
            postgres.stop(POSTGRES)
        with postgres.serve(POSTGRES) as server:
            yield server


def remove(by: str) -> None:
    """Delete the folder and the databases, if there are any.

    Raises:
        InUseError: another process works on them.
    """
    if FOLDER.exists():
        with in_use(by), _locked(_DATABASES_IN_USE, by) as holder:
            if holder:
                raise InUseError(_stop_first(holder))
            if postgres.is_running(POSTGRES):  # what ran it was killed
                postgres.stop(POSTGRES)
            shutil.rmtree(FOLDER)
    postgres.remove(POSTGRES)


@contextmanager
def _locked(path: Path, by: str) -> Iterator[str]:
    """Lock a file during the block. Yield who has locked it already, if someone has."""
    with path.open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            yield file.read()
            return
        file.truncate(0)
        file.write(f"`{by}` (process {os.getpid()})")
        file.flush()
        yield ""


@contextmanager
def stopped_by_signals(complaint: str | None = None) -> Iterator[None]:
    """End the process at Ctrl-C and SIGTERM, even if the shell that started it let it ignore SIGINT.

    complaint: what is said then, if the block was to be finished.

    Processes that are started within the block do not ignore SIGINT either. Further signals do not disturb the end.
    """

    def stop(*_: object) -> NoReturn:
        for each in (signal.SIGINT, signal.SIGTERM):
            signal.signal(each, lambda *_: None)
        raise KeyboardInterrupt

    before = {each: signal.signal(each, stop) for each in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    except KeyboardInterrupt:
        print()
        sys.exit(complaint)
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)


@contextmanager
def progress(step: str) -> Iterator[None]:
    """Print a step and how long it took."""
    print(f"· {step} … ", end="", flush=True)
    started = monotonic()
    yield
    print(f"{monotonic() - started:.1f} s", flush=True)


def _stop_first(holder: str) -> str:
    return f"{holder} works on this demo already. Stop it first, with Ctrl-C or kill."


def _quoted(value: str) -> str:
    """Return a value in single quotes, for a shell and for python-dotenv."""
    return "'" + value.replace("'", r"'\''") + "'"
