"""A star table: a declaration on top of a pure function, pandas in, pandas out.

The function's parameters name the tables it needs: of totesys, as ingested, or of the star. `**facts` stands for
every star table with a foreign key to this one. Each frame has the declared columns of its table, in Arrow-backed
dtypes, and `captured_at`; rows join within one capture. The result may have more columns than declared; it is cast
to the declared ones, and rows that do not fit are set apart.
"""

import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import pandas as pd
import pyarrow as pa

from etl_assets.tables import Table

Transform = Callable[..., pd.DataFrame]


@dataclass(frozen=True, kw_only=True)
class StarTable(Table):
    """A table of the star, and the function that makes its rows.

    `record_id` names the serial key of a fact, one for each version of an event; a dimension has none, and keeps
    the latest version only.
    """

    transform: Transform
    record_id: str | None = None

    def __call__(self, *args: pd.DataFrame, **kwargs: pd.DataFrame) -> pd.DataFrame:
        """Make its rows."""
        return self.transform(*args, **kwargs)

    def inputs(self, star_tables: Iterable["StarTable"]) -> tuple[str, ...]:
        """Name the tables it needs."""
        needed: list[str] = []
        for parameter in inspect.signature(self.transform).parameters.values():
            if parameter.kind is inspect.Parameter.VAR_KEYWORD:
                needed += [star.name for star in star_tables if self.name in star.foreign_keys.values()]
            else:
                needed.append(parameter.name)
        return tuple(needed)


def star_table(
    *,
    primary_key: tuple[str, ...],
    columns: pa.Schema,
    foreign_keys: Mapping[str, str] | None = None,
    record_id: str | None = None,
) -> Callable[[Transform], StarTable]:
    """Declare the star table that a function makes; name and description are the function's own."""

    def declare(transform: Transform) -> StarTable:
        return StarTable(
            name=transform.__name__,
            description=inspect.getdoc(transform) or "",
            primary_key=primary_key,
            columns=columns,
            foreign_keys=foreign_keys or {},
            record_id=record_id,
            transform=transform,
        )

    return declare
