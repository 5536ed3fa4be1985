"""The asset factory over the star tables."""

from collections.abc import Iterable, Sequence

import dagster as dg
import pyarrow as pa
import pyarrow.compute as pc

from etl_assets.captures import captured_at_of
from etl_assets.catalogue import table_metadata
from etl_assets.failures import RETRY_OUTAGES, permanent_failures_not_retried
from etl_assets.ingestion import INGESTION, Join
from etl_assets.storage import CONFORMED, captures_of, with_captures
from etl_assets.tables import CAPTURED_AT, CAPTURED_AT_TYPE, Conformed, Table, conform, frame
from etl_assets.transformation.declare import StarTable

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
    star_tables: Sequence[StarTable], partitions: dg.TimeWindowPartitionsDefinition
) -> list[dg.AssetsDefinition]:
    """Make the transformation assets."""
    return [_asset(star, star_tables, partitions) for star in star_tables]


def _asset(
    star: StarTable, star_tables: Sequence[StarTable], partitions: dg.TimeWindowPartitionsDefinition
) -> dg.AssetsDefinition:
    stars = {other.name for other in star_tables}
    key = dg.AssetKey([TRANSFORMATION, star.name])

    @dg.asset(
        key=key,
        ins={
            name: dg.AssetIn(
                [TRANSFORMATION if name in stars else INGESTION, name],
                dagster_type=CONFORMED,
            )
            for name in star.inputs(star_tables)
        },
        dagster_type=CONFORMED,
        description=star.description,
        metadata=table_metadata(star, versioned=True),
        kinds={"pandas", "parquet"},
        check_specs=[
            dg.AssetCheckSpec(
                NOTHING_REJECTED,
                asset=key,
                description="Every captured row of the partition fits the declared columns; those that do not are set "
                "apart under rejected/, and the load tells of each once.",
            )
        ],
        partitions_def=partitions,
        io_manager_key="transformation_io_manager",
        retry_policy=RETRY_OUTAGES,
    )
    def transformed(context: dg.AssetExecutionContext, **inputs: Conformed) -> dg.MaterializeResult:  # type: ignore[type-arg]
        with permanent_failures_not_retried():
            made = transform(star, inputs)
        if made.rejected.num_rows:
            context.log.warning(f"{star.name}: {made.rejected.num_rows} values rejected")
        return dg.MaterializeResult(
            value=made,
            metadata={"dagster/row_count": made.rows.num_rows, "rejected": made.rejected.num_rows},
            check_results=[_nothing_rejected(made)],
        )

    return transformed


def transform(star: StarTable, inputs: dict[str, Conformed]) -> Conformed:
    """Make the rows of a star table from its inputs, all of the same captures; gather what was rejected."""
    captures = frozenset.intersection(*(captures_of(given.rows.schema) for given in inputs.values()))
    result = star(**{name: frame(_of_captures(given.rows, captures)) for name, given in inputs.items()})
    made = conform(star, pa.Table.from_pandas(result, preserve_index=False))
    rejected = pa.concat_tables([*(given.rejected for given in inputs.values()), made.rejected])
    return Conformed(with_captures(made.rows, captures), rejected)


def _of_captures(rows: pa.Table, captures: frozenset[str]) -> pa.Table:
    """Leave out the rows of a capture that came while the other inputs were being read."""
    if captures_of(rows.schema) == captures:
        return rows
    times = pa.array([captured_at_of(capture) for capture in captures], CAPTURED_AT_TYPE)
    return rows.filter(pc.is_in(rows.column(CAPTURED_AT), times))


def _nothing_rejected(made: Conformed) -> dg.AssetCheckResult:
    shown = made.rejected.slice(0, _REJECTIONS_SHOWN).drop_columns(["row", CAPTURED_AT]).to_pylist()
    return dg.AssetCheckResult(
        check_name=NOTHING_REJECTED,
        passed=not made.rejected.num_rows,
        severity=dg.AssetCheckSeverity.WARN,
        metadata={
            "rejected": made.rejected.num_rows,
            "first": dg.MetadataValue.json(shown),
        },
    )
