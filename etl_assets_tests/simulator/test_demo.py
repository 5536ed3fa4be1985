"""The demo, and what keeps it alive: in a folder of its own, stopped as a shell or a service manager stops it."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import dagster as dg
import pytest
from dagster._core.test_utils import create_run_for_test
from dotenv import dotenv_values

from etl_assets.adapters.postgres import connect
from etl_assets.adapters.settings import Variable
from etl_assets.schema.errors import PermanentError
from etl_assets.simulator import demo, dev, folder, postgres
from etl_assets.simulator.runs import Runs
from etl_assets_tests.harness import ROOT, until


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A working folder that has a space in its name, and no demo yet. What is left of one is removed."""
    working_folder = tmp_path / "a folder"
    working_folder.mkdir()
    monkeypatch.chdir(working_folder)
    monkeypatch.setenv("MAKELEVEL", "1")
    for variable in (*Variable, "DAGSTER_HOME"):
        monkeypatch.setenv(variable, "")  # the demo sets them: restored after the test
    yield working_folder
    demo.clean()
    assert not (working_folder / ".demo").exists()
    assert not postgres.data_folder(working_folder / ".demo/postgres").exists()


@contextmanager
def command(*arguments: str) -> Iterator[subprocess.Popen[str]]:
    """Run a command of the simulator as a background process of a non-interactive shell: it ignores SIGINT."""
    with subprocess.Popen(
        [sys.executable, "-m", "etl_assets.simulator", *arguments],
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_IGN),
    ) as process:
        try:
            yield process
        finally:
            process.terminate()
            process.wait(20)


def read_until(process: subprocess.Popen[str], pattern: str) -> str:
    """Return what a process prints up to a line that matches."""
    assert process.stdout
    lines = []
    for line in process.stdout:
        lines.append(line)
        if re.search(pattern, line):
            return "".join(lines)
    raise AssertionError("".join(lines))


def processes_with(text: str) -> list[str]:
    """Return the command lines of the processes whose command line or environment has a text."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if int(process.name) != os.getpid() and text.encode() in (process / "environ").read_bytes():
                found.append((process / "cmdline").read_text())
    return found


def test_without_a_demo_the_first_step_is_named(elsewhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(PermanentError, match=r"^There is no demo in this folder yet\. Run `make demo` first\.$"):
        dev.dev()
    monkeypatch.delenv("MAKELEVEL")
    with pytest.raises(PermanentError, match=r"Run `python -m etl_assets\.simulator demo` first\.$"):
        dev.databases()


def test_a_taken_port_is_refused_with_who_has_it(elsewhere: Path) -> None:
    folder.create("2026-11-01")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        line = rf"^Port {port} is taken by process {os.getpid()}, .*Choose another: make dev PORT={port + 1}$"
        with pytest.raises(PermanentError, match=line):
            dev.dev(port)


def test_a_demo_is_worked_on_by_one_process_at_a_time(elsewhere: Path) -> None:
    folder.create("2026-11-01")
    line = rf"^`make dev` \(process {os.getpid()}\) works on this demo already\. Stop it first"
    with folder.in_use("make dev"):
        for refused in (dev.dev, demo.demo, demo.clean):
            with pytest.raises(PermanentError, match=line):
                refused()


def test_a_shell_and_a_notebook_read_the_environment(elsewhere: Path) -> None:
    folder.create("2026-11-01T10:30")
    expected = folder.environment()
    assert expected["DAGSTER_HOME"] == str(elsewhere / ".demo" / "dagster")
    assert dotenv_values(folder.ENVIRONMENT) == expected
    sourced = subprocess.run(["bash", "-c", f". {folder.ENVIRONMENT}; env -0"], capture_output=True, check=True)
    variables = dict(line.split("=", 1) for line in sourced.stdout.decode().split("\0") if line)
    assert expected.items() <= variables.items()


def test_the_databases_run_without_the_ui_at_the_addresses_of_the_environment_and_end_on_sigterm(
    elsewhere: Path,
) -> None:
    folder.create("2026-11-01")
    url = folder.environment()["TOTESYS_DATABASE_URL"].replace("/totesys?", "/postgres?")
    with command("databases") as process:
        printed = read_until(process, "Ctrl-C ends them").splitlines()
        status = f"{printed[-2]}; command -v python; echo $WAREHOUSE_DATABASE_URL"
        other_shell = subprocess.run(["bash", "-c", status], capture_output=True, text=True, check=True)
        assert other_shell.stdout.splitlines() == [sys.executable, folder.environment()["WAREHOUSE_DATABASE_URL"]]
        with connect(url) as connection, folder.databases("make dev", shared=True) as server:
            assert connection.run("SELECT 1") == [[1]]
            assert server.url() == url
        with pytest.raises(PermanentError, match=rf"process {process.pid}\) runs the databases already"):
            dev.databases()
    assert process.returncode == 0
    assert not postgres.is_running(folder.POSTGRES)
    assert not server.socket_folder.exists()


def test_the_wheel_contains_what_the_demo_reads(tmp_path: Path) -> None:
    uv = shutil.which("uv") or str(ROOT / ".tools" / "bin" / "uv")
    subprocess.run([uv, "build", "--quiet", "--wheel", "--out-dir", tmp_path, ROOT], check=True)
    [wheel] = tmp_path.glob("*.whl")
    with ZipFile(wheel) as files:
        assert files.read("etl_assets/simulator/dagster.yaml") == (ROOT / "deploy" / "dagster.yaml").read_bytes()
        [metadata] = [name for name in files.namelist() if name.endswith("/METADATA")]
        assert "Provides-Extra: demo" in files.read(metadata).decode()


@pytest.mark.usefixtures("elsewhere")
def test_a_run_that_was_interrupted_holds_up_no_other() -> None:
    folder.create(f"{datetime.now(UTC):%Y-%m-%d}")
    os.environ |= folder.environment()
    with dg.DagsterInstance.get() as instance:
        run_id = create_run_for_test(instance, status=dg.DagsterRunStatus.STARTING).run_id
        Runs(raise_on_error=False)
        [record] = instance.get_run_records(dg.RunsFilter(run_ids=[run_id]))
        assert record.dagster_run.status == dg.DagsterRunStatus.FAILURE


@pytest.mark.e2e
def test_the_demo_runs_twice_and_lives_on(elsewhere: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for _ in range(2):
        demo.demo(years=1, days=1)
        output = capsys.readouterr().out
        assert "fact_sales_order" in output
        assert "never paid" in output
        renamed = re.search(r"They differ because totesys renamed design (\d+) from (.+) to Evergreen", output)
        assert renamed
        design, name = renamed.groups()
        assert re.search(rf"^  {design} +Evergreen +[\d,]+ +{design} +{name} +[\d,]+$", output, re.MULTILINE)
        page = elsewhere / ".demo" / "reports.html"
        assert f"on one page: {page.as_uri()}" in output
        assert "Payments due by outcome" in page.read_text()
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with command("dev", "--port", str(port)) as process:
        guide = read_until(process, "Ctrl-C ends everything")
        assert f"http://127.0.0.1:{port}/overview/activity/timeline" in guide
        assert "Warning" not in guide
        assert {run["repositoryOrigin"]["repositoryLocationName"] for run in runs(port)} == {"etl_assets"}
        alert = read_until(process, "ALERT totesys ETL: check failed: warehouse/fact_sales_order: no_rejected_rows")
        assert "a clerk types 2026-02-30" in alert
        assert {"source_activity", "etl_schedule"} & {tag["value"] for run in runs(port) for tag in run["tags"]}
        assert processes_with(str(elsewhere))
    assert process.returncode == 0
    until(lambda: not processes_with(str(elsewhere)), 5)
    assert not postgres.is_running(folder.POSTGRES)


def runs(port: int) -> list[dict[str, Any]]:
    """Return what the UI lists of the runs."""
    query = "{ runsOrError { ... on Runs { results { repositoryOrigin { repositoryLocationName } tags { value } } } } }"
    body = json.dumps({"query": query}).encode()
    request = urllib.request.Request(f"http://127.0.0.1:{port}/graphql", body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as response:
        return list(json.load(response)["data"]["runsOrError"]["results"])
