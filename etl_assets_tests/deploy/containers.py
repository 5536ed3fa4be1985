"""Images and containers by buildah, podman and runc, without a daemon, and with all their data in one folder."""

import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

TOOLS = ("buildah", "debootstrap", "podman", "runc")
_CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")
_SETTINGS = """
[containers]
default_ulimits = []
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "none"
"""


def missing_requirements() -> list[str]:
    """Return the tools and privileges that this machine lacks."""
    return [tool for tool in TOOLS if not shutil.which(tool)] + (["root"] if os.geteuid() else [])


@dataclass(frozen=True)
class Container:
    """A running container."""

    containers: "Containers"
    name: str

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Run a command in the container."""
        return self.containers.podman("exec", self.name, *command)

    @property
    def log(self) -> str:
        logs = self.containers.podman("logs", self.name)
        return logs.stdout + logs.stderr

    def stop(self, seconds: int) -> int:
        """Send SIGTERM, and SIGKILL after some seconds. Return the exit code."""
        self.containers.podman("stop", "--time", str(seconds), self.name)
        return int(self.containers.podman("inspect", "--format", "{{.State.ExitCode}}", self.name).stdout)


@dataclass(frozen=True)
class Containers:
    """The images and containers in a folder."""

    folder: Path

    @contextmanager
    def temporary_storage(self) -> Iterator[None]:
        """Store images and containers in the folder, and delete them after the block."""
        (self.folder / "containers.conf").write_text(_SETTINGS)
        try:
            yield
        finally:
            self.podman("rm", "--all", "--force", "--time", "0")
            self.podman("volume", "rm", "--all", "--force")
            for mounted in sorted(_mount_points_below(self.folder), reverse=True):
                subprocess.run(["umount", mounted], check=True)
            shutil.rmtree(self.folder)

    def podman(self, command: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
        return self._run("podman", *self._storage_options, command, *arguments)

    def build_base(self, image: str, debian: str) -> None:
        """Build a replacement of the official Python image from Debian packages, with its commands in the same places.

        The official image cannot be downloaded everywhere.
        """
        root = self.folder / "root"
        packages = "ca-certificates,netbase,python3,python3-pip,python3-venv,tzdata"
        self._run_checked("debootstrap", "--variant=minbase", f"--include={packages}", debian, root)
        for name, command in {"python": "python3", "python3": "python3", "pip": "pip3"}.items():
            (root / "usr/local/bin" / name).symlink_to(Path("/usr/bin") / command)
        next(root.glob("usr/lib/python3*/EXTERNALLY-MANAGED")).unlink()
        archive = self.folder / "root.tar"
        self._run_checked("tar", "--create", f"--file={archive}", f"--directory={root}", "--exclude=__pycache__", ".")
        shutil.rmtree(root)
        imported = self.podman("import", archive, image)
        assert imported.returncode == 0, imported.stderr
        archive.unlink()

    def build(self, dockerfile: Path, context: Path, image: str, **arguments: str) -> None:
        """Build an image. The build trusts the certificates of this machine; the image does not contain them."""
        (self.folder / "uv.toml").write_text("system-certs = true\n")
        (self.folder / "pip.conf").write_text(f"[global]\ncert = {_CERTIFICATES}\n")
        mounts = {"uv.toml": "/etc/uv/uv.toml", "pip.conf": "/etc/pip.conf", str(_CERTIFICATES): str(_CERTIFICATES)}
        self._run_checked(
            *("buildah", *self._storage_options, "build", "--isolation=chroot", "--network=host", "--pull-never"),
            *(f"--volume={self.folder / here}:{there}:ro" for here, there in mounts.items()),
            *(f"--build-arg={name}={value}" for name, value in arguments.items()),
            *(f"--file={dockerfile}", f"--tag={image}", context),
        )

    def run(self, image: str, *command: str, environment: Mapping[str, str] = {}) -> subprocess.CompletedProcess[str]:
        """Run a command in a new container, restricted as in the deployment."""
        return self.podman("run", "--rm", *_restrictions(environment), image, *command)

    def start(self, name: str, image: str, *command: str, environment: Mapping[str, str]) -> Container:
        started = self.podman("run", "--detach", f"--name={name}", *_restrictions(environment), image, *command)
        assert started.returncode == 0, started.stderr
        return Container(self, name)

    @property
    def _storage_options(self) -> list[str]:
        return [f"--root={self.folder / 'store'}", f"--runroot={self.folder / 'run'}", "--storage-driver=overlay"]

    def _run(self, *command: str | Path) -> subprocess.CompletedProcess[str]:
        environment = os.environ | {"CONTAINERS_CONF": str(self.folder / "containers.conf")}
        return subprocess.run(command, env=environment, capture_output=True, text=True)

    def _run_checked(self, *command: str | Path) -> None:
        completed = self._run(*command)
        assert completed.returncode == 0, (completed.stdout + completed.stderr)[-3000:]


def _restrictions(environment: Mapping[str, str]) -> list[str]:
    return [
        *("--network=host", "--read-only", "--read-only-tmpfs=false", "--tmpfs=/tmp", "--user=1000:1000"),
        *("--cap-drop=all", "--security-opt=no-new-privileges"),
        *(f"--env={name}={value}" for name, value in environment.items()),
    ]


def _mount_points_below(folder: Path) -> list[str]:
    mount_points = [line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()]
    return [path for path in mount_points if Path(path).is_relative_to(folder)]
