"""Asset checks over tables: each counts the rows that break a rule, and passes if there are none."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import dagster as dg

Observed = TypeVar("Observed")

NO_REJECTED_ROWS = "no_rejected_rows"
"""The check of that name: on a star table about the rows of a partition, on a warehouse table about all rows now."""


@dataclass(frozen=True, kw_only=True)
class Check(Generic[Observed]):
    """A rule for the rows of a table: `count` returns how many rows break it, of what a stage observed.

    metadata_key: what the count is called in the metadata of a result.
    severity: of a result that does not pass. `ERROR` alerts, `WARN` does not.
    blocking: whether a failure stops everything downstream.
    versioned_only: whether it applies to tables that keep every version only.
    """

    name: str
    description: str
    metadata_key: str
    count: Callable[[Observed], int]
    severity: dg.AssetCheckSeverity = dg.AssetCheckSeverity.ERROR
    blocking: bool = False
    versioned_only: bool = False

    def spec(self, asset_key: dg.AssetKey) -> dg.AssetCheckSpec:
        """Return its definition for an asset."""
        return dg.AssetCheckSpec(self.name, asset=asset_key, description=self.description, blocking=self.blocking)

    def result(
        self, asset_key: dg.AssetKey, count: int, metadata: Mapping[str, Any] | None = None
    ) -> dg.AssetCheckResult:
        """Return its result for an asset, with the count and other metadata."""
        return dg.AssetCheckResult(
            asset_key=asset_key,
            check_name=self.name,
            passed=not count,
            severity=self.severity,
            metadata={self.metadata_key: count, **(metadata or {})},
        )
