"""The IO managers of the transformation bucket: of tables, and of any other value of users' own assets."""

from collections.abc import Mapping
from functools import cached_property
from typing import Any
from urllib.parse import unquote, urlsplit

import dagster as dg
import pandas as pd
import pyarrow as pa
from dagster._core.storage.fs_io_manager import PickledObjectFilesystemIOManager
from dagster_aws.s3 import S3PickleIOManager

from etl_assets.adapters.resources import BucketResource
from etl_assets.catalog.io_manager import IOManagerError, RowsIOManager, input_partitions
from etl_assets.catalog.objects import objects_metadata
from etl_assets.catalog.retries import permanent_errors_not_retried
from etl_assets.catalog.stages import TRANSFORMATION
from etl_assets.schema.table import Catalog
from etl_assets.schema.validation import REJECTED, ValidatedRows
from etl_assets.transformation.parquet_files import StarBatches, StarRows, write_star
from etl_assets.transformation.star_table import StarTable

_PICKLES_FOLDER = "pickles"  # deploy/terraform/permanent lets objects below it be overwritten


def transformation_io_manager(catalog: Catalog[StarTable]) -> dg.IOManagerDefinition:
    """Build the IO manager of the transformation bucket."""
    declared = {star.name: star for star in catalog.stars}

    @dg.io_manager(required_resource_keys={"transformation_bucket"})
    def io_manager(init: dg.InitResourceContext) -> RowsIOManager:
        open_bucket = init.resources.transformation_bucket.open

        def load(context: dg.InputContext) -> StarRows:
            folder = _folder(context.asset_key)
            return StarRows(
                asset=context.asset_key.to_user_string(),
                partitions=input_partitions(context),
                folder=folder,
                table=declared.get(folder),
                open_bucket=open_bucket,
                skip_missing=bool((context.definition_metadata or {}).get("allow_missing_partitions")),
            )

        def store(context: dg.OutputContext, value: Any) -> None:
            asset, bucket = context.asset_key.to_user_string(), open_bucket()
            keys = list(context.asset_partition_keys) if context.has_asset_partitions else [None]
            for partition, rows in _by_partition(asset, keys, value).items():
                star = write_star(bucket, _folder(context.asset_key), partition, _batches(asset, rows))
                objects = [each for each in (star.rejected, star.rows) if each]
                for written in objects:
                    written.log(context.log)
                metadata = {
                    "dagster/row_count" if partition is None else "dagster/partition_row_count": star.rows.rows,
                    "rejected": star.rejected.rows if star.rejected else 0,
                    "seconds_write": star.seconds,
                    **objects_metadata(objects),
                }
                context.step_context.add_asset_metadata(metadata, asset_key=context.asset_key, partition_key=partition)

        return RowsIOManager(load, store)

    return io_manager


class PickleIOManager(dg.IOManager):
    """Stores any value with Dagster's own IO manager for S3 or files, below `pickles/` in a bucket.

    The bucket is opened when a value is stored or loaded: Dagster also gives this, its default IO manager, to steps
    that return nothing.
    """

    def __init__(self, bucket: BucketResource) -> None:
        self._bucket = bucket

    @cached_property
    def _inner(self) -> dg.IOManager:
        with permanent_errors_not_retried():
            url = urlsplit(f"{self._bucket.open().url}/{_PICKLES_FOLDER}")
        path = unquote(url.path)
        if url.scheme == "s3":
            prefix = path.removeprefix("/")
            return S3PickleIOManager(s3_resource=self._bucket.s3, s3_bucket=url.netloc, s3_prefix=prefix)
        return PickledObjectFilesystemIOManager(base_dir=path)  # type: ignore[no-untyped-call]

    def load_input(self, context: dg.InputContext) -> Any:
        """Return the stored value of an upstream asset."""
        return self._inner.load_input(context)

    def handle_output(self, context: dg.OutputContext, obj: Any) -> None:
        """Store a value. It replaces an earlier one of the same asset and partition."""
        self._inner.handle_output(context, obj)


@dg.io_manager(required_resource_keys={"transformation_bucket"})
def pickle_io_manager(init: dg.InitResourceContext) -> PickleIOManager:
    """Build the default IO manager."""
    return PickleIOManager(init.resources.transformation_bucket)


def _folder(key: dg.AssetKey) -> str:
    """Return where a table lies in the bucket. Users' own assets cannot collide with star tables there."""
    stage, *rest = key.path
    return "/".join(rest if stage == TRANSFORMATION and rest else ("assets", *key.path))


def _by_partition(asset: str, partitions: list[str] | list[None], value: Any) -> Mapping[str | None, Any]:
    """Return the value of each partition, or raise an `IOManagerError`."""
    if not isinstance(value, Mapping):
        if len(partitions) == 1:
            return {partitions[0]: value}
        raise IOManagerError(
            f"{asset} returned one {type(value).__name__} for {len(partitions)} partitions: return a dict from "
            "partition key to rows, or give the asset backfill_policy=BackfillPolicy.multi_run(1)"
        )
    if set(value) != set(partitions):
        raise IOManagerError(
            f"{asset} returned a dict with the keys {', '.join(map(str, value))}; the partitions of the run are "
            f"{', '.join(map(str, partitions))}"
        )
    return value


def _batches(asset: str, value: Any) -> StarBatches:
    """Return the value of a partition as batches, or raise an `IOManagerError`."""
    if callable(value):  # of our own assets, which are transformed as they are written
        value = value()
    if isinstance(value, StarBatches):
        return value
    if isinstance(value, pd.DataFrame):
        value = pa.Table.from_pandas(value)
    if not isinstance(value, pa.Table | pa.RecordBatchReader):
        raise IOManagerError(
            f"{asset} returned a {type(value).__name__}: return a pandas.DataFrame, a pyarrow.Table or a "
            "pyarrow.RecordBatchReader, or a dict from partition key to one of these"
        )
    tables = [value] if isinstance(value, pa.Table) else (pa.Table.from_batches([batch]) for batch in value)
    none = REJECTED.empty_table()
    return StarBatches(value.schema, frozenset(), (ValidatedRows(table, none) for table in tables))
