"""Whole runs through Dagster: the first, one without changes, and how runs grow with history."""

import json
import logging
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any

import boto3
import dagster as dg
import pytest
from dagster_aws.s3 import S3Resource
from moto.s3.models import s3_backends
from moto.server import ThreadedMotoServer

from benchmarks.bench import Bench, Curve
from benchmarks.measure import Row, compared, in_fresh_process, in_turn, profiled, seconds, timed, with_peak
from benchmarks.stages import FACT, ORDER_AND_LOOKUPS, capture_tables, load_fact, make_all
from etl_assets.adapters.object_store import Bucket
from etl_assets.adapters.postgres import column_list, connect
from etl_assets.automation.jobs import capture_partitions
from etl_assets.catalog.stages import ETL
from etl_assets.ingestion.manifest import key_timestamp, latest, partition_folder
from etl_assets.schema.columns import CAPTURED_AT
from etl_assets.totesys import TOTESYS_TABLES
from etl_assets_tests.harness import Platform

_QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
_WINDOW = timedelta(minutes=15)
_LAYER = 11
_AWS = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_DEFAULT_REGION": "us-east-1"}
_MOTO_ACCOUNT = "123456789012"
_PEERS = Path(__file__).parent / "peers"
_TIMEOUT = 1800


@dataclass(frozen=True)
class Place:
    """A platform by the URLs of its databases and buckets, and its current time."""

    totesys: str
    warehouse: str
    buckets: str
    now: datetime

    def platform(self, environment: pytest.MonkeyPatch, **arguments: Any) -> Platform:
        """Return the platform. The arguments are those of its definitions."""
        platform = Platform(self.totesys, self.warehouse, self.buckets, environment, **arguments)
        platform.now = self.now
        return platform

    def later(self, number: int) -> "Place":
        """Return the same platform, this many windows later."""
        return replace(self, now=self.now + number * _WINDOW)


@contextmanager
def _instance(storage: str) -> Iterator[dg.DagsterInstance]:
    instance: AbstractContextManager[dg.DagsterInstance] = (
        dg.instance_for_test() if storage == "SQLite" else dg.DagsterInstance.ephemeral()
    )
    with instance as opened:
        yield opened


def run(place: Place, storage: str = "ephemeral", **arguments: Any) -> tuple[float, list[tuple[str, float]]]:
    """Run `etl`. Return its seconds, and those of each step."""
    with pytest.MonkeyPatch.context() as environment, _instance(storage) as instance:
        platform = place.platform(environment, **arguments)
        started = perf_counter()
        result = platform.run(instance=instance)
        taken = perf_counter() - started
        steps = [
            (event.step_key or "", event.step_success_data.duration_ms / 1000)
            for event in result.all_events
            if event.is_step_success
        ]
    return taken, steps


def profile(place: Place, storage: str) -> list[list[str]]:
    """Run `etl` under the profiler. Return its time by package."""
    with pytest.MonkeyPatch.context() as environment, _instance(storage) as instance:
        return profiled(partial(place.platform(environment).run, instance=instance))


def run_empty(ops: Sequence[tuple[int, int]], storage: str) -> float:
    """Run a job of ops that do nothing, each with this many assets and checks. Return its seconds."""
    partitions = capture_partitions(datetime(2026, 1, 1, tzinfo=UTC))
    assets, number = [], 0
    for size, checks in ops:
        assets.append(_empty(range(number, number + size), checks, partitions))
        number += size
    definitions = dg.Definitions(
        assets=assets,
        jobs=[dg.define_asset_job("empty", selection=dg.AssetSelection.all())],
        executor=dg.in_process_executor,
    )
    with _instance(storage) as instance:
        started = perf_counter()
        definitions.resolve_job_def("empty").execute_in_process(
            partition_key=partitions.get_last_partition_key(), run_config=_QUIET, instance=instance
        )
        return perf_counter() - started


def _empty(numbers: range, checks: int, partitions: dg.PartitionsDefinition[Any]) -> dg.AssetsDefinition:
    keys = {number: dg.AssetKey(f"asset{number}") for number in numbers}
    of = [keys[numbers[check % len(numbers)]] for check in range(checks)]

    @dg.multi_asset(
        name=f"op{numbers[0]}",
        specs=[dg.AssetSpec(key, deps=[f"asset{n - _LAYER}"] if n >= _LAYER else []) for n, key in keys.items()],
        check_specs=[dg.AssetCheckSpec(f"check{check}", asset=key) for check, key in enumerate(of)],
        partitions_def=partitions,
    )
    def empty() -> Iterator[dg.MaterializeResult[Any]]:
        for key in keys.values():
            results = [
                dg.AssetCheckResult(check_name=f"check{check}", asset_key=key, passed=True)
                for check, checked in enumerate(of)
                if checked == key
            ]
            yield dg.MaterializeResult(asset_key=key, check_results=results)

    return empty


def _shape(place: Place) -> list[tuple[int, int]]:
    """Return the number of assets and checks of each of our ops."""
    with pytest.MonkeyPatch.context() as environment:
        layer = place.platform(environment).definitions.resolve_job_def(ETL).asset_layer
        return [
            (len(list(assets.keys)), len(list(assets.check_keys)))
            for assets in layer.asset_graph.assets_defs
            if {*assets.keys} & layer.selected_asset_keys
        ]


def _small(bench: Bench, name: str, buckets: str | None = None) -> Place:
    """Return a small platform that has run once."""
    totesys, warehouse = bench.filled(f"totesys_{name}", 1_000), bench.server.create_database(f"warehouse_{name}")
    place = Place(totesys, warehouse, buckets or bench.bucket(name), datetime.now(UTC))
    run(place)
    return place


def first_runs(bench: Bench) -> None:
    """Measure the first run, against peers that only copy the tables."""
    rows = bench.sizes.rows
    assert bench.totesys  # creates it
    bench.server.create_database("first")
    totesys, warehouse = map(bench.server.tcp_url, ("totesys", "first"))
    place = Place(totesys, warehouse, bench.bucket("first"), datetime.now(UTC))
    (taken, steps), most = with_peak(run, place)
    tables = [table.name for table in TOTESYS_TABLES]
    what = f"first run of {rows:,} sales orders, all tables, totesys → warehouse"
    peers: list[tuple[str, Callable[[], float]]] = [
        ("connectorx_copy", partial(_peer, bench, "connectorx_copy", "totesys", tables)),
        ("dlt_sql_database", partial(_peer, bench, "dlt_sql_database", "totesys", tables)),
        ("original", partial(_original, bench, tables)),
    ]
    for name, peer in peers:
        scaled = f" (measured at 1/{bench.sizes.row_by_row}, multiplied)" if name == "original" else ""
        try:
            row = compared(what, [taken], {f"{name}{scaled}, totesys → PostgreSQL only": [peer()]}, 1, strictly=True)
        except (RuntimeError, OSError, subprocess.SubprocessError) as error:
            row = Row(what, seconds([taken]), f"{name} failed: {error}", target="< 1 ×")
        bench.report.row(row)
    bench.report.row(Row("memory of the first run", f"{most:.0f} MB at {rows:,} rows"))
    bench.report.table("Where the first run spends its time, by step", *_by_step(taken, steps))
    bench.drop("first")


def _by_step(taken: float, steps: Sequence[tuple[str, float]]) -> tuple[list[str], list[list[str]]]:
    outside = ("(Dagster, outside of steps)", taken - sum(spent for _, spent in steps))
    longest = sorted([*steps, outside], key=lambda step: -step[1])[:10]
    return ["step", "seconds", "share"], [[step, f"{spent:.2f} s", f"{spent / taken:.0%}"] for step, spent in longest]


def _original(bench: Bench, tables: Sequence[str]) -> float:
    bench.filled("totesys_original", bench.sizes.rows // bench.sizes.row_by_row)
    return _peer(bench, "original", "totesys_original", tables) * bench.sizes.row_by_row


def _peer(bench: Bench, name: str, totesys: str, tables: Sequence[str]) -> float:
    """Run a peer in its own environment. Return its seconds, without imports."""
    warehouse = f"peer_{name}"
    bench.server.create_database(warehouse)
    command = [os.environ.get("UV", "uv"), "run", "--quiet", "--no-project", "--python", sys.executable, "--script",
               str(_PEERS / f"{name}.py"), *map(bench.server.tcp_url, (totesys, warehouse)), *tables]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT, check=False)
    if done.returncode:
        raise RuntimeError(done.stderr.strip().splitlines()[-1][:200] if done.stderr.strip() else "no error message")
    result = json.loads(done.stdout.splitlines()[-1])
    bench.report.versions |= result["versions"]
    copied, expected = (_counts(bench.server.url(database), tables) for database in (warehouse, totesys))
    if copied != expected:
        raise RuntimeError(f"it copied {copied} of {expected}")
    bench.drop(warehouse)
    return float(result["seconds"])


def _counts(url: str, tables: Sequence[str]) -> dict[str, int]:
    with connect(url) as connection:
        connection.run("SET search_path TO totesys, public")  # dlt creates its own schema
        return {table: connection.run(f"SELECT count(*) FROM {table}")[0][0] for table in tables}


def ticks(bench: Bench) -> None:
    """Measure a run without changes, the first of its process, against assets that do nothing."""
    place = _small(bench, "ticks")
    shape = _shape(place)
    assets, checks = (sum(each) for each in zip(*shape, strict=True))
    each, more = divmod(checks, assets)
    kinds = {
        f"{assets} empty assets": [(1, 0)] * assets,
        f"the same with {checks} empty checks": [(1, each + (number < more)) for number in range(assets)],
        f"{len(shape)} empty steps with the same assets and checks": shape,
    }
    window = iter(range(1, 1000))
    for storage in bench.sizes.storages:
        own, *empty = in_turn(
            bench.sizes.long_rounds if storage == "ephemeral" else 1,
            lambda storage=storage: in_fresh_process(run, place.later(next(window)), storage)[0],  # type: ignore[misc]
            *(partial(in_fresh_process, run_empty, ops, storage) for ops in kinds.values()),
        )
        for kind, of_kind in zip(kinds, empty, strict=True):
            what = f"run without changes, all assets, {storage} storage"
            bench.report.row(compared(what, own, {kind: of_kind}, 1.5))
    taken, steps = in_fresh_process(run, place.later(next(window)))
    bench.report.table("Where a run without changes spends its time, by step", *_by_step(taken, steps))
    for storage in bench.sizes.storages:
        lines = in_fresh_process(profile, place.later(next(window)), storage)
        bench.report.table(f"The same by package, {storage} storage, profiled", ["package", "own time", "share"], lines)


def _with_more(place: Place, more: int, put: Callable[[str, bytes], object]) -> Place:
    """Add this many invented captures after the latest. Return the platform in the window after them."""
    previous = latest(Bucket(f"{place.buckets}/ingestion"))
    assert previous
    lines = []
    for number in range(1, more + 1):
        capture = replace(
            previous,
            captured_at=previous.captured_at + _WINDOW,
            partition=f"{_window(place.later(number).now):%Y-%m-%d-%H:%M}",
            full_because=None,
            previous=previous.id,
            files={},
        )
        put(
            f"ingestion/{partition_folder('captures', capture.partition)}/{key_timestamp(capture.captured_at)}.json",
            capture.to_json(),
        )
        lines.append(f"{capture.id},{capture.captured_at},{capture.previous},f\n".encode())
        previous = capture
    with connect(place.warehouse) as connection:
        connection.copy_in("warehouse.loads", ["capture", "captured_at", "previous", "full_capture"], lines)
    return place.later(more + 1)


def _window(time: datetime) -> datetime:
    return time.replace(minute=time.minute // 15 * 15)


def _put_file(root: str, key: str, body: bytes) -> None:
    path = Path(root.removeprefix("file://")) / key
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(body)


def histories_of_captures(bench: Bench) -> None:
    """Measure a run without changes after more and more captures: seconds on files, requests on S3."""
    seconds_at, there = [], 1
    place = _small(bench, "captures")
    for captures in bench.sizes.captures:
        place = _with_more(place, captures - there, partial(_put_file, place.buckets))
        taken = []
        for _ in range(bench.sizes.long_rounds):
            taken.append(in_fresh_process(run, place)[0])
            place = place.later(1)
        seconds_at.append((captures, sorted(taken)[len(taken) // 2]))
        there = captures + len(taken)
    bench.report.curve(
        "captures-seconds", Curve("Run without changes, buckets in files", "captures", "seconds", seconds_at)
    )
    requests = [(captures, _requests(bench, captures)) for captures in bench.sizes.captures]
    (fewest, first), *_, (most, last) = requests
    kinds = ", ".join(f"{n} {kind}" for kind, n in sorted(last.items()))
    bench.report.row(
        Row(
            "S3 requests of a run without changes",
            f"{first.total()} after {fewest:,} capture; {last.total()} after {most:,} ({kinds})",
            ratio=last.total() / first.total(),
            target="the same",
            met=first == last,
        )
    )
    points = [(captures, float(counted.total())) for captures, counted in requests]
    bench.report.curve("captures-requests", Curve("Run without changes, S3", "captures", "requests", points))


def _requests(bench: Bench, captures: int) -> Counter[str]:
    """Return the number of requests to S3 of a run, by operation."""
    moto = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    moto.start()
    with pytest.MonkeyPatch.context() as environment:
        logging.getLogger("werkzeug").disabled = True
        try:
            host, port = moto.get_host_and_port()
            for name, value in {**_AWS, "AWS_ENDPOINT_URL": f"http://{host}:{port}"}.items():
                environment.setenv(name, value)
            bucket = f"captures-{captures}"
            boto3.client("s3").create_bucket(Bucket=bucket)
            place = _small(bench, f"s3_{captures}", f"s3://{bucket}")
            backend = s3_backends[_MOTO_ACCOUNT]["aws"]  # over HTTP, writing the captures would take a minute
            place = _with_more(place, captures - 1, partial(backend.put_object, bucket))
            counted: Counter[str] = Counter()
            run(place, s3=_counting_s3(counted))
            return counted
        finally:
            moto.stop()


def _counting_s3(counted: Counter[str]) -> S3Resource:
    """Return a resource whose clients count their requests, by operation."""

    class CountingS3(S3Resource):
        def get_client(self) -> Any:
            client = super().get_client()
            client.meta.events.register(
                "before-send.s3", lambda event_name, **_: counted.update([event_name.rpartition(".")[2]])
            )
            return client

    return CountingS3()


def histories_of_rows(bench: Bench) -> None:
    """Measure the load of 1,000 changed rows into larger and larger tables."""
    changed, windows_left = 1_000, iter(range(1, 100))
    totesys = bench.filled("totesys_history", 2 * changed)
    warehouse, lake = bench.server.create_database("history"), bench.bucket("history")
    start = datetime(2025, 12, 1, tzinfo=UTC)

    def load_some(rows: int) -> float:
        """Change rows across the history, capture and transform them. Return the seconds to load them."""
        partition = f"{start + next(windows_left) * _WINDOW:%Y-%m-%d-%H:%M}"
        with connect(totesys) as connection:
            connection.run(
                "UPDATE sales_order SET units_sold = units_sold + 1 WHERE sales_order_id <= :last", last=rows * step
            )
        capture_tables(totesys, lake, ORDER_AND_LOOKUPS, partition)
        make_all(lake, partition)
        return timed(load_fact, warehouse, lake, partition)

    step = max(bench.sizes.history) // (2 * changed)
    with connect(totesys) as connection:  # spread the keys across the history
        connection.run("SET session_replication_role = replica")
        connection.run(f"UPDATE sales_order SET sales_order_id = - {step} * sales_order_id")
        connection.run("UPDATE sales_order SET sales_order_id = - sales_order_id")
    load_some(changed)
    columns = [name for name in FACT.captured_columns.names if name not in (*FACT.primary_key, CAPTURED_AT)]
    points, there = [], 0
    for rows in bench.sizes.history:
        with connect(warehouse) as connection:
            connection.run("SET session_replication_role = replica")  # copied foreign keys resolve: skip the checks
            connection.run(
                f"""INSERT INTO warehouse.{FACT.name} (sales_order_id, {CAPTURED_AT}, {column_list(columns)})
                    SELECT number, timestamp '2020-01-01', {column_list(columns, "one")}
                    FROM (SELECT * FROM warehouse.{FACT.name} LIMIT 1) one,
                         generate_series({there + 1}, {rows}) number"""
            )
            connection.run(f"VACUUM ANALYZE warehouse.{FACT.name}")
            connection.run("CHECKPOINT")
        there = rows
        taken = sorted(load_some(changed) for _ in range(bench.sizes.rounds))
        points.append((rows, taken[len(taken) // 2]))
    title = f"Load of {changed:,} changed rows"
    bench.report.curve("history-seconds", Curve(title, "rows in the fact before", "seconds", points))
    bench.drop("history")
