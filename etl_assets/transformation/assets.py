"""The asset factory over the star tables."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import dagster as dg
import pyarrow as pa
import pyarrow.compute as pc

from etl_assets.buckets import Bucket
from etl_assets.captures import captured_at_of
from etl_assets.catalogue import PREVIEWED, Clock, described, masked, preview, table_metadata
from etl_assets.failures import RETRY_OUTAGES, permanent_failures_not_retried
from etl_assets.ingestion import INGESTION, Join
from etl_assets.storage import (
    BucketResource,
    captures_of,
    open_star,
    read_captured,
    read_star,
    with_captures,
    write_star,
)
from etl_assets.tables import CAPTURED_AT, CAPTURED_AT_TYPE, IS_NULL, REJECTED, Conformed, Table, conform, frame
from etl_assets.transformation.declare import StarTable, lineage

TRANSFORMATION = "transformation"
NOTHING_REJECTED = "nothing_rejected"

_REJECTIONS_SHOWN = 20


def joins(star_tables: Sequence[StarTable], source_tables: Iterable[Table]) -> tuple[Join, ...]:
    """Read off the star tables which source tables they join, along the source's foreign keys."""
    by_name = {table.name: table for table in source_tables}
    found: dict[Join, None] = {}
    for star in star_tables:
        inputs = star.inputs(star_tables)
        for table in inputs:
            if table in by_name:
                for column, to in by_name[table].foreign_keys.items():
                    if to in inputs and to != table:
                        found[Join(table, column, to)] = None
    return tuple(found)


def transformation_assets(
    star_tables: Sequence[StarTable], source_tables: Sequence[Table], partitions: dg.TimeWindowPartitionsDefinition
) -> list[dg.AssetsDefinition]:
    """Make the transformation assets."""
    tables: dict[str, Table] = {table.name: table for table in (*source_tables, *star_tables)}
    return [_asset(star, star.inputs(star_tables), tables, partitions) for star in star_tables]


def _asset(
    star: StarTable, inputs: Sequence[str], tables: Mapping[str, Table], partitions: dg.TimeWindowPartitionsDefinition
) -> dg.AssetsDefinition:
    key = dg.AssetKey([TRANSFORMATION, star.name])
    upstream = {name: [_stage(tables[name]), name] for name in inputs}
    origins = {
        column: [(upstream[of.table], of.column) for of in made_of] for column, made_of in lineage(star, tables).items()
    }

    @dg.asset(
        key=key,
        deps=list(upstream.values()),
        description=described(star.description, origins),
        metadata=table_metadata(star, origins=origins, versioned=True),
        kinds={"pandas", "parquet"},
        check_specs=[
            dg.AssetCheckSpec(check.name, asset=key, description=check.description, blocking=check.blocking)
            for check in _checks(star)
        ],
        partitions_def=partitions,
        backfill_policy=dg.BackfillPolicy.single_run(),
        io_manager_key="transformation_io_manager",
        retry_policy=RETRY_OUTAGES,
    )
    def transformed(
        context: dg.AssetExecutionContext,
        ingestion_bucket: BucketResource,
        transformation_bucket: BucketResource,
    ) -> dg.MaterializeResult:  # type: ignore[type-arg]
        counts: Counter[str] = Counter()
        rejected = REJECTED.empty_table()
        with permanent_failures_not_retried():
            source, target = ingestion_bucket.open(), transformation_bucket.open()
            for partition in context.partition_keys:
                clock = Clock()
                given = same_captures({name: _read(source, target, tables[name], partition) for name in inputs})
                clock.lap("read")
                result = transform(star, given)
                clock.lap("transform")
                path, size = write_star(target, star.name, partition, result)
                clock.lap("write")
                counts.update({check.name: check.count(star, Made(given, result)) for check in _checks(star)})
                rejected = pa.concat_tables([rejected, result.rejected]).slice(0, _REJECTIONS_SHOWN)
                facts = {
                    "dagster/row_count": result.rows.num_rows,
                    "bytes": size,
                    "rejected": result.rejected.num_rows,
                    **clock.seconds,
                    "dagster/uri": f"{target.url}/{path}",
                    "preview": preview(star, result.rows.slice(0, PREVIEWED).to_pylist()),
                }
                context.add_asset_metadata(facts, partition_key=partition)
        return dg.MaterializeResult(
            check_results=[_evaluated(check, counts[check.name], tables, rejected) for check in _checks(star)]
        )

    return transformed


def _stage(table: Table) -> str:
    return TRANSFORMATION if isinstance(table, StarTable) else INGESTION


def _read(ingestion: Bucket, transformation: Bucket, table: Table, partition: str) -> Conformed:
    if not isinstance(table, StarTable):
        return read_captured(ingestion, table, partition)
    with open_star(transformation, table.name, partition) as file:
        return Conformed(read_star(file), REJECTED.empty_table())


def transform(star: StarTable, inputs: Mapping[str, Conformed]) -> Conformed:
    """Make the rows of a star table from its inputs, all of the same captures; gather what was rejected."""
    result = star(**{name: frame(given.rows) for name, given in inputs.items()})
    made = conform(star, pa.Table.from_pandas(result, preserve_index=False))
    rejected = pa.concat_tables([*(given.rejected for given in inputs.values()), made.rejected])
    [captures] = {captures_of(given.rows.schema) for given in inputs.values()}
    return Conformed(with_captures(made.rows, captures), rejected)


def same_captures(inputs: Mapping[str, Conformed]) -> dict[str, Conformed]:
    """Leave out the rows of a capture that came while the other inputs were being read."""
    captures = frozenset.intersection(*(captures_of(given.rows.schema) for given in inputs.values()))
    times = pa.array([captured_at_of(capture) for capture in captures], CAPTURED_AT_TYPE)

    def of_captures(given: Conformed) -> Conformed:
        if captures_of(given.rows.schema) == captures:
            return given
        rows, rejected = (
            table.filter(pc.is_in(table.column(CAPTURED_AT), times)) for table in (given.rows, given.rejected)
        )
        return Conformed(with_captures(rows, captures), rejected)

    return {name: of_captures(given) for name, given in inputs.items()}


@dataclass(frozen=True)
class Made:
    """The rows of a star table of one partition, and what they were made of."""

    inputs: Mapping[str, Conformed]
    result: Conformed


@dataclass(frozen=True, kw_only=True)
class _Check:
    """What must be true of the rows of a star table: that there are none of which `count` counts.

    A load must not go on when a check that is `blocking` fails.
    """

    name: str
    description: str
    counted: str
    count: Callable[[StarTable, Made], int]
    blocking: bool = True
    facts_only: bool = False


def _duplicates(star: StarTable, made: Made) -> int:
    rows = made.result.rows
    return int(rows.num_rows - rows.group_by([*star.primary_key, CAPTURED_AT]).aggregate([]).num_rows)


def _nulls(_: StarTable, made: Made) -> int:
    return int(pc.sum(pc.equal(made.result.rejected.column("reason"), IS_NULL)).as_py() or 0)


def _missing(_: StarTable, made: Made) -> int:
    """Count the rows too many or too few: a fact has one for each of its first input."""
    source = next(iter(made.inputs.values()))
    return abs(_rows(source) - _rows(made.result))


def _rows(conformed: Conformed) -> int:
    """Count rows, and those rejected, of which each value at fault is told."""
    rejected = conformed.rejected.group_by([CAPTURED_AT, "key", "row"]).aggregate([])
    return int(conformed.rows.num_rows + rejected.num_rows)


_CHECKS = (
    _Check(
        name=NOTHING_REJECTED,
        description="Every captured row of the partition fits the declared columns; those that do not are set apart "
        "under rejected/, and the load tells of each once.",
        counted="rejected",
        count=lambda _, made: made.result.rejected.num_rows,
        blocking=False,
    ),
    _Check(
        name="keys_unique",
        description="No capture has two rows of one key.",
        counted="duplicates",
        count=_duplicates,
    ),
    _Check(
        name="not_null",
        description="No value was null where none may be; the rows of such values are set apart, as by "
        "`nothing_rejected`.",
        counted="nulls",
        count=_nulls,
        blocking=False,
    ),
    _Check(
        name="rows_match_capture",
        description="There is one row for each that was captured, those rejected included.",
        counted="rows too many or too few",
        count=_missing,
        facts_only=True,
    ),
)


def _checks(star: StarTable) -> list[_Check]:
    return [check for check in _CHECKS if star.record_id or not check.facts_only]


def _evaluated(check: _Check, count: int, tables: Mapping[str, Table], rejected: pa.Table) -> dg.AssetCheckResult:
    metadata: dict[str, Any] = {check.counted: count}
    if check.name == NOTHING_REJECTED:
        metadata["first"] = dg.MetadataValue.json(
            [
                row | {"value": masked(tables[row["table"]], row["column"], row["value"])}
                for row in rejected.drop_columns(["row", CAPTURED_AT]).to_pylist()
            ]
        )
    return dg.AssetCheckResult(
        check_name=check.name,
        passed=not count,
        severity=dg.AssetCheckSeverity.ERROR if check.blocking else dg.AssetCheckSeverity.WARN,
        metadata=metadata,
    )
