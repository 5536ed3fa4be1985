"""The transformation assets: a factory over the star tables."""

from collections import Counter
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

import dagster as dg
import pyarrow as pa

from etl_assets.catalog.metadata import asset_description, key_text, partition_example, preview, table_metadata
from etl_assets.catalog.partitions import MAX_PARTITIONS_PER_RUN
from etl_assets.catalog.retries import RETRY_OUTAGES
from etl_assets.catalog.stages import INGESTION, TRANSFORMATION
from etl_assets.schema.rows import Rows
from etl_assets.schema.table import Catalog
from etl_assets.schema.validation import REJECTED
from etl_assets.transformation.checks import (
    NO_REJECTED_ROWS,
    ROWS_MATCH_CAPTURE,
    checks_of,
    lost_metadata,
    rejections_metadata,
)
from etl_assets.transformation.code_version import code_version, rule_versions
from etl_assets.transformation.parquet_files import StarBatches
from etl_assets.transformation.star_table import StarTable, lineage
from etl_assets.transformation.transform import MAX_KEYS_SHOWN, TransformStats, transform_partition


def transformation_assets(
    catalog: Catalog[StarTable], partitions: dg.TimeWindowPartitionsDefinition
) -> list[dg.AssetsDefinition]:
    """Build the transformation assets."""
    rules = rule_versions(catalog)
    return [_star_asset(star, catalog, partitions, rules[star.name]) for star in catalog.stars]


def _star_asset(
    star: StarTable, catalog: Catalog[StarTable], partitions: dg.TimeWindowPartitionsDefinition, rule: str
) -> dg.AssetsDefinition:
    key = dg.AssetKey([TRANSFORMATION, star.name])
    upstream = {
        name: [TRANSFORMATION if isinstance(catalog[name], StarTable) else INGESTION, name]
        for name in star.inputs(catalog.stars)
    }
    origins = {
        column: [(upstream[origin.table], origin.column) for origin in columns]
        for column, columns in lineage(star, catalog).items()
    }
    checks = checks_of(star)

    @dg.asset(
        key=key,
        ins={name: dg.AssetIn(key=upstream_key) for name, upstream_key in upstream.items()},
        description=asset_description(
            star,
            f"One row per {key_text(star)} and capture.",
            f'```python\nfrom etl_assets import lake\nlake.current("{star.name}").to_pandas()\n```',
            "`lake.history` has every version. The rows of one partition:",
            partition_example(key.path),
            origins=origins,
        ),
        metadata=table_metadata(star, origins=origins, versioned=True),
        kinds={"pandas", "parquet"},
        code_version=code_version(star),
        check_specs=[check.spec(key) for check in checks],
        partitions_def=partitions,
        backfill_policy=dg.BackfillPolicy.multi_run(MAX_PARTITIONS_PER_RUN),
        io_manager_key="transformation_io_manager",
        retry_policy=RETRY_OUTAGES,
    )
    def materialize_star(context: dg.AssetExecutionContext, **inputs: Rows) -> Iterator[Any]:
        counts: Counter[str] = Counter()
        rejected, lost = [REJECTED.empty_table()], list[Mapping[str, Any]]()

        def observed(partition: str, stats: TransformStats) -> None:
            counts.update({check.name: check.count(stats) for check in checks})
            lost.extend(stats.lost_keys)
            rejected.append(stats.rejected.slice(0, MAX_KEYS_SHOWN))
            metadata = {**stats.clock.seconds, "preview": preview(star, stats.first_rows)}
            context.add_asset_metadata(metadata, partition_key=partition)

        in_order = {name: inputs[name] for name in upstream}  # of the function's parameters; Dagster sorts them

        def transformed(partition: str) -> StarBatches:
            return transform_partition(star, in_order, partition, partial(observed, partition), rule=rule)

        # The IO manager draws and stores every batch before this generator resumes: then the counts are complete.
        yield dg.Output({partition: partial(transformed, partition) for partition in context.partition_keys})
        shown = {
            NO_REJECTED_ROWS.name: rejections_metadata(pa.concat_tables(rejected), catalog),
            ROWS_MATCH_CAPTURE.name: lost_metadata(star, lost),
        }
        for check in checks:
            yield check.result(key, counts[check.name], shown.get(check.name))

    return materialize_star
