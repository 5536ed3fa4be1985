"""Reports as inputs of assets: the answers of now, and the newest page. The op of the reports writes what it makes."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import dagster as dg
import pyarrow as pa

from etl_assets.adapters.postgres import Connection
from etl_assets.adapters.resources import BucketResource
from etl_assets.catalog.io_manager import IOManagerError, RowsIOManager, read_only
from etl_assets.catalog.retries import permanent_errors_not_retried
from etl_assets.catalog.stages import REPORTS
from etl_assets.reports.answers import answer_table
from etl_assets.reports.report import Report, ReportError
from etl_assets.schema.rows import Rows


@dataclass(frozen=True, kw_only=True)
class AnsweredRows(Rows):
    """The answer to a report from the warehouse as it is when it is first read, whatever the partition.

    Its methods raise what `answer_table` raises.
    """

    report: Report
    connect: Callable[[], AbstractContextManager[Connection]]

    @cached_property
    def _table(self) -> pa.Table:
        with self.connect() as connection:
            return answer_table(connection, self.report)

    def schema(self) -> pa.Schema:
        """Return the columns of the result."""
        return self._table.schema

    def batches(self) -> Iterator[pa.Table]:
        """Yield the rows, in the order of the report."""
        yield self._table


def reports_io_manager(reports: Sequence[Report], malformed: Sequence[ReportError]) -> dg.IOManagerDefinition:
    """Build the IO manager of the reports."""
    by_name = {report.name: report for report in reports}
    faults = {fault.name: fault for fault in malformed}

    @dg.io_manager(required_resource_keys={"warehouse_database"})
    def io_manager(init: dg.InitResourceContext) -> RowsIOManager:
        def load(context: dg.InputContext) -> AnsweredRows:
            name = context.asset_key.path[-1]
            if name in faults:
                raise faults[name]
            return AnsweredRows(
                asset=context.asset_key.to_user_string(),
                report=by_name[name],
                connect=init.resources.warehouse_database.connect,
            )

        return RowsIOManager(load)

    return io_manager


class PageIOManager(dg.IOManager):
    """Loads the newest page of the reports."""

    def __init__(self, bucket: BucketResource) -> None:
        self._bucket = bucket

    def load_input(self, context: dg.InputContext) -> str:
        """Return the page as HTML."""
        asset, annotation = context.asset_key.to_user_string(), context.dagster_type.typing_type
        with permanent_errors_not_retried():
            if annotation not in (Any, str):
                raise IOManagerError(f"{asset} cannot be loaded as {annotation}: it is HTML, annotate the input as str")
            bucket = self._bucket.open()
            pages = bucket.objects(REPORTS)
            if not pages:
                raise IOManagerError(f"{asset} has no page: materialize it first")
            with bucket.open(pages[-1]) as file:
                return file.read().decode()

    def handle_output(self, context: dg.OutputContext, obj: object) -> None:
        """Refuse to store an output."""
        with permanent_errors_not_retried():
            read_only(context, obj)


@dg.io_manager(required_resource_keys={"transformation_bucket"})
def page_io_manager(init: dg.InitResourceContext) -> PageIOManager:
    """Build the IO manager of the page."""
    return PageIOManager(init.resources.transformation_bucket)
