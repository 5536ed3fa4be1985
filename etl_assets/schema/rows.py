"""Rows that are read when they are asked for, in the form they are asked for."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass

import pandas as pd
import pyarrow as pa

from etl_assets.schema.validation import to_pandas

PREVIEW_ROWS = 5


@dataclass(frozen=True, kw_only=True)
class Rows(ABC):
    """The stored rows of an asset. Nothing is opened before a method is called.

    asset: the asset key, for messages.
    partitions: the partition keys; empty if the rows are not stored by partition.
    """

    asset: str
    partitions: tuple[str, ...] = ()

    @abstractmethod
    def schema(self) -> pa.Schema:
        """Return the columns."""

    @abstractmethod
    def batches(self) -> Iterator[pa.Table]:
        """Yield the rows in batches, partition by partition."""

    def to_reader(self) -> pa.RecordBatchReader:
        """Return a reader that streams the rows."""
        batches = (batch for table in self.batches() for batch in table.to_batches())
        return pa.RecordBatchReader.from_batches(self.schema(), batches)

    def to_arrow(self) -> pa.Table:
        """Return the rows as one table."""
        return pa.concat_tables([self.schema().empty_table(), *self.batches()], promote_options="default")

    def to_pandas(self) -> pd.DataFrame:
        """Return the rows as a frame with the same Arrow types (`pandas.ArrowDtype`)."""
        return to_pandas(self.to_arrow())
