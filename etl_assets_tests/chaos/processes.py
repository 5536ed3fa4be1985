"""Runs of the jobs in processes of their own, which can be killed, at a chosen point or from outside.

Each is forked from one process that has imported everything, so that it starts at once.
"""

import multiprocessing
import os
import signal
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from types import FrameType
from typing import Any

import dagster as dg

import etl_assets
from etl_assets.automation import ETL
from etl_assets.definitions import definitions
from etl_assets_tests.platform import Platform

_PACKAGE = f"{Path(etl_assets.__file__).parent}/"
_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload([__name__])
# What reaches a disk or a server, whoever calls it.
_EFFECTS = {"link", "unlink", "fsync", "write", "flush", "sendall", "open"}

Point = tuple[str, int]
"""A moment in a run: what is called or returns, and how often that has happened."""


def run(
    platform: Platform, *, job: str = ETL, partition: str | None = None, full: bool = False, at: Point | None = None
) -> ForkServerProcess:
    """Start a run; it kills itself with SIGKILL at a point, if one is given."""
    return _start(platform, job, partition or platform.partition, full, at)


def _start(platform: Platform, *how: Any) -> ForkServerProcess:
    aws = {name: value for name, value in os.environ.items() if name.startswith("AWS_")}
    process = _CONTEXT.Process(target=_run, args=(platform.variables | aws, platform.now, *how))
    process.start()
    return process


def finish(process: ForkServerProcess) -> int:
    """Wait for a run; give its exit code: 0, or minus the signal that killed it."""
    process.join(timeout=120)
    assert process.exitcode is not None, "the run does not end"
    return process.exitcode


def points(platform: Platform, notes: Path) -> dict[str, int]:
    """Run to the end, and give how often each thing happened at which a run can be killed."""
    assert finish(_start(platform, ETL, platform.partition, False, None, notes)) == 0
    lines = (line.rpartition(" ") for line in notes.read_text().splitlines())
    return {label: int(count) for label, _, count in lines}


def _run(
    variables: Mapping[str, str],
    now: datetime,
    job: str,
    partition: str,
    full: bool,
    at: Point | None,
    notes: Path | None = None,
) -> None:
    os.environ.update(variables)
    config: dict[str, Any] = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
    if job == ETL:
        config["ops"] = {"ingestion": {"config": {"full_capture": full}}}
    with dg.partition_loading_context(effective_dt=now):
        resolved = definitions().resolve_job_def(job)
        with _watched(at, notes):
            done = resolved.execute_in_process(partition_key=partition, run_config=config, raise_on_error=False)
    sys.exit(0 if done.success else 1)


@contextmanager
def _watched(at: Point | None, notes: Path | None) -> Iterator[None]:
    """Count what happens; kill the process at a point; write down the counts at the end."""
    if at is None and notes is None:
        yield
        return
    seen: Counter[str] = Counter()

    def watch(frame: FrameType, event: str, arg: Any) -> None:
        label = _label(frame, event, arg)
        if label:
            seen[label] += 1
            if at == (label, seen[label]):
                os.kill(os.getpid(), signal.SIGKILL)

    sys.setprofile(watch)
    try:
        yield
    finally:
        sys.setprofile(None)
    if notes:
        notes.write_text("".join(f"{label} {count}\n" for label, count in sorted(seen.items())))


def _label(frame: FrameType, event: str, arg: Any) -> str | None:
    code = frame.f_code
    if event in ("call", "return"):
        if code.co_filename.startswith(_PACKAGE):
            module = Path(code.co_filename).relative_to(_PACKAGE).with_suffix("")
            return f"{event} {module}:{code.co_qualname}"
    elif arg.__name__ in _EFFECTS and ("pg8000" in code.co_filename or code.co_filename.startswith(_PACKAGE)):
        return f"{event} {arg.__name__} in {Path(code.co_filename).stem}:{code.co_qualname}"
    return None
