"""The checks of the star tables, computed while their rows stream by."""

from collections.abc import Mapping, Sequence
from typing import Any

import dagster as dg
import pyarrow as pa
import pyarrow.compute as pc

from etl_assets.catalog import checks
from etl_assets.catalog.checks import Check
from etl_assets.catalog.metadata import masked_rejection, masked_values
from etl_assets.schema.columns import CAPTURED_AT
from etl_assets.schema.table import Catalog
from etl_assets.schema.validation import IS_NULL
from etl_assets.transformation.repeated_keys import REPEATED
from etl_assets.transformation.star_table import StarTable
from etl_assets.transformation.transform import MAX_KEYS_SHOWN, TransformStats


def _count_reason(stats: TransformStats, reason: str) -> int:
    return pc.sum(pc.equal(stats.rejected.column("reason"), reason)).as_py() or 0


NO_REJECTED_ROWS = Check[TransformStats](
    name=checks.NO_REJECTED_ROWS,
    description="Every captured row of the partition fits the declared columns. Rows that do not are stored under "
    "rejected/ and reported once, by the load.",
    metadata_key="rejected",
    count=lambda stats: stats.rejected.num_rows,
    severity=dg.AssetCheckSeverity.WARN,
)

ROWS_MATCH_CAPTURE = Check[TransformStats](
    name="rows_match_capture",
    description="There is one row per captured row, rejected rows included. If not, correct the function and deploy "
    "it: the captures are kept, and catch_up loads them. `lost` has the first keys of which nothing was made.",
    metadata_key="difference",
    count=lambda stats: stats.difference,
    blocking=True,
    versioned_only=True,
)

_CHECKS = (
    NO_REJECTED_ROWS,
    Check[TransformStats](
        name="keys_unique_per_capture",
        description="No capture has two rows with the same key. All rows of such a key are among the rejected rows.",
        metadata_key="duplicates",
        count=lambda stats: _count_reason(stats, REPEATED),
        severity=dg.AssetCheckSeverity.WARN,
    ),
    Check[TransformStats](
        name="not_null",
        description="No NOT NULL column has a null. Rows with one are among the rejected rows.",
        metadata_key="nulls",
        count=lambda stats: _count_reason(stats, IS_NULL),
        severity=dg.AssetCheckSeverity.WARN,
    ),
    ROWS_MATCH_CAPTURE,
)


def checks_of(star: StarTable) -> list[Check[TransformStats]]:
    """Return the checks of a star table."""
    return [check for check in _CHECKS if star.keeps_every_version or not check.versioned_only]


def lost_metadata(star: StarTable, keys: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    """Return the first keys of captured rows of which nothing was made as metadata, with personal data masked."""
    return {"lost": dg.MetadataValue.json([masked_values(star, key) for key in keys[:MAX_KEYS_SHOWN]])}


def rejections_metadata(rejected: pa.Table, catalog: Catalog[StarTable]) -> Mapping[str, Any]:
    """Return the first rejections as metadata, with personal data masked."""
    rows = rejected.drop_columns(["row", "position", CAPTURED_AT]).slice(0, MAX_KEYS_SHOWN).to_pylist()
    shown = [row | masked_rejection(catalog[row["table"]], row["key"], row["column"], row["value"]) for row in rows]
    return {"first": dg.MetadataValue.json(shown)}
