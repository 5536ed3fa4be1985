"""The asset factory over the star tables."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeAlias

import dagster as dg
import pyarrow as pa
import pyarrow.compute as pc
from pyroaring import BitMap64

from etl_assets.buckets import Bucket
from etl_assets.captures import captured_at_of, in_partition
from etl_assets.catalogue import PREVIEWED, Clock, described, masked, preview, table_metadata
from etl_assets.failures import RETRY_OUTAGES, permanent_failures_not_retried
from etl_assets.ingestion import INGESTION, PARTITIONS_A_RUN, Join
from etl_assets.storage import (
    BucketResource,
    captured_batches,
    captures_of,
    open_star,
    read_captured,
    read_distinct,
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
        backfill_policy=dg.BackfillPolicy.multi_run(PARTITIONS_A_RUN),
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
                made, facts = make(star, [tables[name] for name in inputs], source, target, partition)
                counts.update({check.name: check.count(made) for check in _checks(star)})
                rejected = pa.concat_tables([rejected, made.rejected]).slice(0, _REJECTIONS_SHOWN)
                context.add_asset_metadata(facts, partition_key=partition)
        return dg.MaterializeResult(
            check_results=[_evaluated(check, counts[check.name], tables, rejected) for check in _checks(star)]
        )

    return transformed


def _stage(table: Table) -> str:
    return TRANSFORMATION if isinstance(table, StarTable) else INGESTION


def make(
    star: StarTable, inputs: Sequence[Table], ingestion: Bucket, transformation: Bucket, partition: str
) -> tuple["Made", Mapping[str, Any]]:
    """Make a star table of a partition, and write it; give what was made, and what is to be shown of it."""
    clock, made = Clock(), Made(star)
    captures, batches = _given(star, inputs, ingestion, transformation, partition)
    key, size = write_star(transformation, star, partition, captures, _transformed(star, batches, made, clock))
    clock.lap("write")
    return made, {
        "dagster/row_count": made.rows,
        "bytes": size,
        "rejected": made.rejected.num_rows,
        **clock.seconds,
        "dagster/uri": f"{transformation.url}/{key}",
        "preview": preview(star, made.first_rows),
    }


Inputs: TypeAlias = Mapping[str, Conformed]
"""What a star table is made of, by the name of the table."""


def _given(
    star: StarTable, inputs: Sequence[Table], ingestion: Bucket, transformation: Bucket, partition: str
) -> tuple[frozenset[str], Iterable[Inputs]]:
    """Give the captures of a partition, and what a star table is made of: whole if it joins tables, else in batches."""
    [first, *others] = inputs
    if not others and not isinstance(first, StarTable):
        captures = in_partition(ingestion, partition)
        batches = ({first.name: batch} for batch in captured_batches(ingestion, first, captures))
        return frozenset(capture.id for capture in captures), batches
    whole = same_captures({table.name: _read(star, table, ingestion, transformation, partition) for table in inputs})
    [ids] = {captures_of(given.rows.schema) for given in whole.values()}
    return ids, [whole]


def _read(star: StarTable, table: Table, ingestion: Bucket, transformation: Bucket, partition: str) -> Conformed:
    if not isinstance(table, StarTable):
        return read_captured(ingestion, table, partition)
    keys = [column for column, to in table.foreign_keys.items() if to == star.name]
    with open_star(transformation, table.name, partition) as file:
        rows = read_distinct(file, [*keys, CAPTURED_AT]) if keys else read_star(file)
        return Conformed(with_captures(rows, file.captures), REJECTED.empty_table())


def _transformed(star: StarTable, batches: Iterable[Inputs], made: "Made", clock: Clock) -> Iterator[Conformed]:
    for given in batches:
        clock.lap("read")
        result = transform(star, given)
        made.note(given, result)
        clock.lap("transform")
        yield result
        clock.lap("write")
    clock.lap("read")


def transform(star: StarTable, inputs: Inputs) -> Conformed:
    """Make the rows of a star table from its inputs, all of the same captures; gather what was rejected."""
    result = star(**{name: frame(given.rows) for name, given in inputs.items()})
    made = conform(star, pa.Table.from_pandas(result, preserve_index=False))
    return Conformed(made.rows, pa.concat_tables([*(given.rejected for given in inputs.values()), made.rejected]))


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


class Made:
    """What of a star table was made of a partition: what its checks look at."""

    def __init__(self, star: StarTable) -> None:
        self._key = star.primary_key
        self._numbers: defaultdict[datetime, BitMap64] = defaultdict(BitMap64)
        self._others: defaultdict[datetime, set[tuple[Any, ...]]] = defaultdict(set)
        self.rows = 0
        self.rejected = REJECTED.empty_table()
        self.given = 0
        """Rows of the first input, those rejected among them."""
        self.set_apart = 0
        """Rows rejected, of each of which `rejected` has one row for every value at fault."""
        self.first_rows: list[dict[str, Any]] = []

    def note(self, inputs: Inputs, result: Conformed) -> None:
        """Add what was made of a batch."""
        first, rows = next(iter(inputs.values())), result.rows
        self.given += first.rows.num_rows + _rows_of(first.rejected)
        self.rows += rows.num_rows
        times = rows.column(CAPTURED_AT)
        for time in pc.unique(times):
            self._note_keys(time.as_py(), rows.select(self._key).filter(pc.equal(times, time)))
        self.rejected = pa.concat_tables([self.rejected, result.rejected])
        self.set_apart += _rows_of(result.rejected)
        self.first_rows += rows.slice(0, PREVIEWED - len(self.first_rows)).to_pylist()

    def _note_keys(self, capture: datetime, keys: pa.Table) -> None:
        if len(self._key) == 1 and pa.types.is_integer(keys.schema.types[0]):  # many of them take little memory
            self._numbers[capture].update(memoryview(keys.column(0).to_numpy().astype("uint64")))
        else:
            self._others[capture].update(zip(*keys.to_pydict().values(), strict=True))

    @property
    def duplicates(self) -> int:
        """Rows whose key another row of the capture has."""
        return self.rows - sum(map(len, self._numbers.values())) - sum(map(len, self._others.values()))


def _rows_of(rejected: pa.Table) -> int:
    return int(rejected.group_by([CAPTURED_AT, "key", "row"]).aggregate([]).num_rows)


@dataclass(frozen=True, kw_only=True)
class _Check:
    """What must be true of the rows of a star table: that there are none of which `count` counts.

    A load must not go on when a check that is `blocking` fails.
    """

    name: str
    description: str
    counted: str
    count: Callable[[Made], int]
    blocking: bool = True
    facts_only: bool = False


def _nulls(made: Made) -> int:
    return int(pc.sum(pc.equal(made.rejected.column("reason"), IS_NULL)).as_py() or 0)


def _missing(made: Made) -> int:
    """Count the rows too many or too few: a fact has one for each of its first input."""
    return int(abs(made.given - made.rows - made.set_apart))


_CHECKS = (
    _Check(
        name=NOTHING_REJECTED,
        description="Every captured row of the partition fits the declared columns; those that do not are set apart "
        "under rejected/, and the load tells of each once.",
        counted="rejected",
        count=lambda made: made.rejected.num_rows,
        blocking=False,
    ),
    _Check(
        name="keys_unique",
        description="No capture has two rows of one key.",
        counted="duplicates",
        count=lambda made: made.duplicates,
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
