"""The checks of the warehouse tables."""

from collections.abc import Sequence
from dataclasses import dataclass

import dagster as dg

from etl_assets.catalog import checks
from etl_assets.catalog.checks import Check
from etl_assets.catalog.stages import REBUILD
from etl_assets.transformation.star_table import StarTable
from etl_assets.warehouse.audit import Audit
from etl_assets.warehouse.loader import TableLoad


@dataclass(frozen=True)
class LoadedTable:
    """What the loads of a run did to a table, and what the audit found in it afterwards."""

    loads: Sequence[TableLoad]
    audit: Audit


NO_REJECTED_ROWS = Check[LoadedTable](
    name=checks.NO_REJECTED_ROWS,
    description="Every row of the source is here in its present state. One that is not is reported once, under "
    "`first`, and stays in warehouse.rejected or warehouse.pending until it is corrected at the source.",
    metadata_key="quarantined",
    count=lambda table: table.audit.outstanding,
)

MATCHES_SOURCE = Check[LoadedTable](
    name="matches_source",
    description="As of each full capture that was loaded, the table has the rows of its source table with the same "
    "values in the columns that are copied from it. Rows in warehouse.rejected and warehouse.pending are left out.",
    metadata_key="differing",
    count=lambda table: sum(
        1 if each.differing is None else each.differing
        for load in table.loads
        for each in load.reconciliations
        if each.is_equal is False
    ),
)

_CHECKS = (
    NO_REJECTED_ROWS,
    MATCHES_SOURCE,
    Check[LoadedTable](
        name="rule_is_current",
        description="The table was built by the rule of now. If not, its history is of the rule before, and nothing is "
        f"loaded into it until the job `{REBUILD}` has built it anew.",
        metadata_key="loads_waiting",
        count=lambda table: sum(load.outdated for load in table.loads),
        severity=dg.AssetCheckSeverity.WARN,
    ),
    Check[LoadedTable](
        name="no_missed_changes",
        description="A full capture found nothing that the captures before it had missed.",
        metadata_key="missed_changes",
        count=lambda table: sum(load.repaired for load in table.loads),
    ),
    Check[LoadedTable](
        name="keys_unique",
        description="No two rows have the same key.",
        metadata_key="duplicates",
        count=lambda table: table.audit.duplicates,
    ),
    Check[LoadedTable](
        name="foreign_keys_resolve",
        description="Every foreign key references a row that is here.",
        metadata_key="dangling",
        count=lambda table: table.audit.dangling,
        versioned_only=True,
    ),
    Check[LoadedTable](
        name="current_unique",
        description="The `_current` view has each of the newest facts once, and no deleted one.",
        metadata_key="wrong",
        count=lambda table: table.audit.not_current,
        versioned_only=True,
    ),
    Check[LoadedTable](
        name="rows_match_capture",
        description="The load read as many rows as the manifest of the capture lists; after a full capture, as many "
        "are current. Rejected and pending rows are reported by `no_rejected_rows`.",
        metadata_key="difference",
        count=lambda table: sum(load.unmatched for load in table.loads),
        versioned_only=True,
    ),
)


def checks_of(star: StarTable, *, is_reconciled: bool) -> list[Check[LoadedTable]]:
    """Return the checks of a warehouse table."""
    return [
        check
        for check in _CHECKS
        if (star.keeps_every_version or not check.versioned_only) and (is_reconciled or check is not MATCHES_SOURCE)
    ]
