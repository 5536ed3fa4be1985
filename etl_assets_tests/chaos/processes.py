"""Runs, with Dagster or without, in separate processes, which can be killed: at a chosen point, or from outside.

They are forked from one process that has imported everything, so that they start quickly.
"""

import multiprocessing
import os
import random
import signal
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

import etl_assets
from etl_assets.adapters.object_store import Bucket
from etl_assets.adapters.postgres import connect
from etl_assets.catalog.stages import TRANSFORMATION, WAREHOUSE
from etl_assets.ingestion.manifest import list_after, partition_of
from etl_assets.simulator.activity import Totesys
from etl_assets.warehouse.ledger import latest_loaded
from etl_assets_tests.harness import Platform

_PACKAGE = f"{Path(etl_assets.__file__).parent}/"
_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload([__name__])
# Functions that write to a disk or a server.
_EFFECTS = {"link", "unlink", "fsync", "write", "flush", "sendall", "open"}

Point = tuple[str, int]
"""A point in a run: the label of a call or return, and its number, from 1."""

Work = Callable[[Platform, str, bool], bool]
"""Does something for a partition, with a full capture or not. Returns whether it succeeded."""


def etl(platform: Platform, partition: str, full: bool) -> bool:
    """Run the job `etl`."""
    return platform.run(partition=partition, full_capture=full, raise_on_error=False).success


def replay(platform: Platform, partition: str, full: bool) -> bool:
    """Transform and load with Dagster."""
    return platform.run(TRANSFORMATION, WAREHOUSE, partition=partition, raise_on_error=False).success


def refresh(platform: Platform, partition: str, full: bool) -> bool:
    """Capture, transform and load without Dagster."""
    platform.refresh(partition=partition, full_capture=full)
    return True


def start(
    platform: Platform,
    work: Work = etl,
    *,
    partition: str | None = None,
    full: bool = False,
    at: Point | None = None,
    file: Path | None = None,
) -> ForkServerProcess:
    """Start a process. At the point, if there is one, it kills itself with SIGKILL.

    To the file, if there is one, it writes how often each point was reached.
    """
    variables = platform.variables | {name: value for name, value in os.environ.items() if name.startswith("AWS_")}
    arguments = (variables, platform.buckets_url, platform.now, work, partition or platform.partition, full, at, file)
    process = _CONTEXT.Process(target=_work, args=arguments)
    process.start()
    return process


def finish(process: ForkServerProcess) -> int:
    """Wait for a process. Return its exit code: 0, 1 if it failed, or minus the signal that killed it."""
    process.join(timeout=120)
    assert process.exitcode is not None, "the process does not end"
    return process.exitcode


def count_points(platform: Platform, work: Work, file: Path) -> dict[str, int]:
    """Work to the end. Return by label of a point how often it was reached."""
    assert finish(start(platform, work, file=file)) == 0
    lines = (line.rpartition(" ") for line in file.read_text().splitlines())
    return {label: int(count) for label, _, count in lines}


def _work(
    variables: Mapping[str, str],
    buckets: str,
    now: datetime,
    work: Work,
    partition: str,
    full: bool,
    at: Point | None,
    file: Path | None,
) -> None:
    with pytest.MonkeyPatch.context() as environment:
        for name, value in variables.items():
            environment.setenv(name, value)
        totesys, warehouse = (variables[name] for name in ("TOTESYS_DATABASE_URL", "WAREHOUSE_DATABASE_URL"))
        platform = Platform(totesys, warehouse, buckets, environment)
        platform.now = now
        with _profiled(at, file):
            succeeded = work(platform, partition, full)
    sys.exit(0 if succeeded else 1)


@contextmanager
def _profiled(at: Point | None, file: Path | None) -> Iterator[None]:
    """Kill the process at the point; write to the file how often each point was reached."""
    if at is None and file is None:
        yield
        return
    counts: Counter[str] = Counter()

    def profile(frame: FrameType, event: str, arg: Any) -> None:
        label = _label(frame, event, arg)
        if label:
            counts[label] += 1
            if at == (label, counts[label]):
                os.kill(os.getpid(), signal.SIGKILL)

    sys.setprofile(profile)
    try:
        yield
    finally:
        sys.setprofile(None)
    if file:
        file.write_text("".join(f"{label} {count}\n" for label, count in sorted(counts.items())))


def _label(frame: FrameType, event: str, arg: Any) -> str | None:
    code = frame.f_code
    if event in ("call", "return"):
        if code.co_filename.startswith(_PACKAGE):
            module = Path(code.co_filename).relative_to(_PACKAGE).with_suffix("")
            return f"{event} {module}:{code.co_qualname}"
    elif arg.__name__ in _EFFECTS and ("pg8000" in code.co_filename or code.co_filename.startswith(_PACKAGE)):
        return f"{event} {arg.__name__} in {Path(code.co_filename).stem}:{code.co_qualname}"
    return None


def catch_up(platform: Platform) -> None:
    """Load all captures, oldest first, as the sensor `catch_up` does."""
    bucket = Bucket(platform.ingestion_url)
    while True:
        with connect(platform.warehouse_url) as connection:
            capture = next(list_after(bucket, latest_loaded(connection)), None)
        if capture is None:
            return
        platform.refresh(TRANSFORMATION, WAREHOUSE, partition=partition_of(capture))


def make_changes(platform: Platform, draw: random.Random) -> None:
    """Change totesys in several ways: a sale, a purchase, payments, edits that leave `last_updated` as it is."""
    with connect(platform.totesys_url) as connection:
        totesys = Totesys(connection, seed=draw.randrange(2**32))
        [[now]] = connection.run("SELECT localtimestamp(3)")
        totesys.sell(now)
        totesys.purchase(now)
        for table in ("sales_order", "purchase_order", "design"):
            totesys.edit_silently(table)
        connection.run("UPDATE department SET location = :place WHERE department_id = 2", place=str(draw.random()))
        connection.run("UPDATE payment SET paid = NOT paid WHERE payment_id % 7 = :n", n=draw.randrange(7))


def delete_rows(platform: Platform) -> None:
    """Delete a payment, and a member of staff with a department, or insert these again.

    The source has counted the deletions when this returns: its session tells them at the end of one message.
    """
    [[employed]] = platform.totesys("SELECT EXISTS (SELECT FROM staff WHERE staff_id = 99)")
    if employed:
        change = "DELETE FROM staff WHERE staff_id = 99; DELETE FROM department WHERE department_id = 99"
    else:
        change = """INSERT INTO department VALUES (99, 'Passing', 'x', 'y', '2024-08-01', '2024-08-01');
            INSERT INTO staff VALUES (99, 'Ada', 'x', 99, 'x', '2024-08-01', '2024-08-01')"""
    platform.totesys(
        f"""SELECT pg_stat_force_next_flush(); {change};
            DELETE FROM payment WHERE payment_id = (SELECT min(payment_id) FROM payment)"""
    )
