"""IO managers over stored rows: an input has the type it is annotated with."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, get_args, get_origin

import dagster as dg
import pandas as pd
import pyarrow as pa

from etl_assets.catalog.retries import permanent_errors_not_retried
from etl_assets.schema.errors import PermanentError
from etl_assets.schema.rows import Rows

_CONVERSIONS: dict[Any, Callable[[Rows], Any]] = {
    pd.DataFrame: Rows.to_pandas,
    pa.Table: Rows.to_arrow,
    pa.RecordBatchReader: Rows.to_reader,
}
_TYPES = "pandas.DataFrame, pyarrow.Table or pyarrow.RecordBatchReader"


class IOManagerError(PermanentError):
    """An input cannot be loaded as its annotation says, or an output cannot be stored."""


def read_only(context: dg.OutputContext, _: object) -> None:
    """Refuse to store an output."""
    raise IOManagerError(
        f"{context.asset_key.to_user_string()} cannot be stored by this IO manager, which only reads: "
        'give the asset io_manager_key="transformation_io_manager"'
    )


class RowsIOManager(dg.IOManager):
    """Loads inputs by `load`, as their annotation says, and stores outputs by `store`."""

    def __init__(
        self, load: Callable[[dg.InputContext], Rows], store: Callable[[dg.OutputContext, Any], None] = read_only
    ) -> None:
        self._load = load
        self._store = store

    def load_input(self, context: dg.InputContext) -> Any:
        """Return the rows of an upstream asset: `Rows`, or what the input is annotated with."""
        with permanent_errors_not_retried():
            return _as_annotated(self._load(context), context.dagster_type.typing_type)

    def handle_output(self, context: dg.OutputContext, obj: Any) -> None:
        """Store the output of an asset."""
        with permanent_errors_not_retried():
            self._store(context, obj)


def input_partitions(context: dg.InputContext) -> tuple[str, ...]:
    """Return the partition keys that an input is loaded for; empty if the upstream asset is not partitioned.

    Raises:
        IOManagerError: it is partitioned, and is loaded outside of a run without a partition.
    """
    if context.has_asset_partitions:
        return tuple(context.asset_partition_keys)
    try:
        last = context.asset_partitions_def.get_last_partition_key()
    except dg.DagsterInvariantViolationError:  # it is not partitioned
        return ()
    raise IOManagerError(
        f'{context.asset_key.to_user_string()} is partitioned: say which rows to load with partition_key="{last}", or '
        "with partition_key_range=PartitionKeyRange(…)"
    )


def _as_annotated(rows: Rows, annotation: Any) -> Any:
    if annotation is Any or (isinstance(annotation, type) and isinstance(rows, annotation)):
        return rows
    if get_origin(annotation) is dict and rows.partitions:
        _, value_type = get_args(annotation)
        by_partition = {partition: replace(rows, partitions=(partition,)) for partition in rows.partitions}
        return {partition: _as_annotated(value, value_type) for partition, value in by_partition.items()}
    if annotation not in _CONVERSIONS:
        or_dict = ", or a dict from partition key to one of these" if rows.partitions else ""
        raise IOManagerError(
            f"{rows.asset} cannot be loaded as {annotation}: annotate the input as {_TYPES}{or_dict}; "
            "without an annotation it is a lazy Rows"
        )
    return _CONVERSIONS[annotation](rows)
