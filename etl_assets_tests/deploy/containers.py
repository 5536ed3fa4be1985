"""Images and containers without a container engine: by buildah, podman and runc, with all they keep in one folder."""

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


def missing() -> list[str]:
    """What this machine lacks to have containers."""
    return [tool for tool in TOOLS if not shutil.which(tool)] + (["root"] if os.geteuid() else [])


@dataclass(frozen=True)
class Container:
    """A running container."""

    containers: "Containers"
    name: str

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Run a command in it."""
        return self.containers.podman("exec", self.name, *command)

    @property
    def log(self) -> str:
        told = self.containers.podman("logs", self.name)
        return told.stdout + told.stderr

    def stop(self, seconds: int) -> int:
        """Send SIGTERM, and after some seconds SIGKILL; give the exit code."""
        self.containers.podman("stop", "--time", str(seconds), self.name)
        return int(self.containers.podman("inspect", "--format", "{{.State.ExitCode}}", self.name).stdout)


@dataclass(frozen=True)
class Containers:
    """The images and containers that are in a folder."""

    folder: Path

    @contextmanager
    def kept(self) -> Iterator[None]:
        """Keep them for a while, and nothing of them afterwards."""
        (self.folder / "containers.conf").write_text(_SETTINGS)
        try:
            yield
        finally:
            self.podman("rm", "--all", "--force", "--time", "0")
            self.podman("volume", "rm", "--all", "--force")
            for mounted in sorted(_mounted_below(self.folder), reverse=True):
                subprocess.run(["umount", mounted], check=True)
            shutil.rmtree(self.folder)

    def podman(self, command: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
        return self._run("podman", *self._places, command, *arguments)

    def stand_in_for(self, image: str, debian: str) -> None:
        """Make an image of Python's from Debian's packages, with its commands where the official one has them."""
        root = self.folder / "root"
        packages = "ca-certificates,netbase,python3,python3-pip,python3-venv,tzdata"
        self._succeed("debootstrap", "--variant=minbase", f"--include={packages}", debian, root)
        for name, command in {"python": "python3", "python3": "python3", "pip": "pip3"}.items():
            (root / "usr/local/bin" / name).symlink_to(Path("/usr/bin") / command)
        next(root.glob("usr/lib/python3*/EXTERNALLY-MANAGED")).unlink()
        archive = self.folder / "root.tar"
        self._succeed("tar", "--create", f"--file={archive}", f"--directory={root}", "--exclude=__pycache__", ".")
        shutil.rmtree(root)
        imported = self.podman("import", archive, image)
        assert imported.returncode == 0, imported.stderr
        archive.unlink()

    def build(self, dockerfile: Path, context: Path, image: str, **arguments: str) -> None:
        """Build an image; what this machine trusts is trusted meanwhile, and is not in the image."""
        (self.folder / "uv.toml").write_text("system-certs = true\n")
        (self.folder / "pip.conf").write_text(f"[global]\ncert = {_CERTIFICATES}\n")
        mounts = {"uv.toml": "/etc/uv/uv.toml", "pip.conf": "/etc/pip.conf", str(_CERTIFICATES): str(_CERTIFICATES)}
        self._succeed(
            *("buildah", *self._places, "build", "--isolation=chroot", "--network=host", "--pull-never"),
            *(f"--volume={self.folder / here}:{there}:ro" for here, there in mounts.items()),
            *(f"--build-arg={name}={value}" for name, value in arguments.items()),
            *(f"--file={dockerfile}", f"--tag={image}", context),
        )

    def run(self, image: str, *command: str, environment: Mapping[str, str] = {}) -> subprocess.CompletedProcess[str]:
        """Run a command in a container of its own, as the deployment runs its parts."""
        return self.podman("run", "--rm", *_hardened(environment), image, *command)

    def start(self, name: str, image: str, *command: str, environment: Mapping[str, str]) -> Container:
        started = self.podman("run", "--detach", f"--name={name}", *_hardened(environment), image, *command)
        assert started.returncode == 0, started.stderr
        return Container(self, name)

    @property
    def _places(self) -> list[str]:
        return [f"--root={self.folder / 'store'}", f"--runroot={self.folder / 'run'}", "--storage-driver=overlay"]

    def _run(self, *command: str | Path) -> subprocess.CompletedProcess[str]:
        environment = os.environ | {"CONTAINERS_CONF": str(self.folder / "containers.conf")}
        return subprocess.run(command, env=environment, capture_output=True, text=True)

    def _succeed(self, *command: str | Path) -> None:
        done = self._run(*command)
        assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]


def _hardened(environment: Mapping[str, str]) -> list[str]:
    return [
        *("--network=host", "--read-only", "--read-only-tmpfs=false", "--tmpfs=/tmp", "--user=1000:1000"),
        *("--cap-drop=all", "--security-opt=no-new-privileges"),
        *(f"--env={name}={value}" for name, value in environment.items()),
    ]


def _mounted_below(folder: Path) -> list[str]:
    mounted = [line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()]
    return [place for place in mounted if Path(place).is_relative_to(folder)]
