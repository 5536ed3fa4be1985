"""A star table: a declaration on top of a pure function, pandas in, pandas out.

The function's parameters name the tables it needs: of totesys, as ingested, or of the star. `**facts` stands for
every star table with a foreign key to this one, of each those keys only, every combination once. Each other frame has
the declared columns of its table, in Arrow-backed dtypes, and `captured_at`; rows join within one capture. A function
of one table is given it in batches, and makes each row of one. The result may have more columns than declared; it is
cast to the declared ones, and rows that do not fit are set apart. A fact has one row for each row of its first
parameter.
"""

import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import pandas as pd
import pyarrow as pa

from etl_assets.tables import Table, inherited

Transform = Callable[..., pd.DataFrame]


class ColumnOf(NamedTuple):
    """A column of a table."""

    table: str
    column: str


@dataclass(frozen=True, kw_only=True)
class StarTable(Table):
    """A table of the star, and the function that makes its rows.

    `record_id` names the serial key of a fact, one for each version of an event; a dimension has none, and keeps
    the latest version only. `derived_from` names the columns that a column is made of, where it is not the one of the
    same name.
    """

    transform: Transform
    record_id: str | None = None
    derived_from: Mapping[str, tuple[ColumnOf, ...]] = field(default_factory=dict)

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


def lineage(star: StarTable, tables: Mapping[str, Table]) -> dict[str, tuple[ColumnOf, ...]]:
    """Tell for each column of a star table which columns of its inputs it is made of.

    Those it was declared to be derived from; or the one of the same name; or, for what is made of `**facts`, every key
    of a fact that refers to it. `tables` are all source and star tables, by name.

    Raises:
        ValueError: a column has no origin, or several of its name.
    """
    stars = [table for table in tables.values() if isinstance(table, StarTable)]
    inputs = [tables[name] for name in star.inputs(stars)]
    keys = tuple(
        ColumnOf(table.name, column)
        for table in inputs
        for column, to in table.foreign_keys.items()
        if isinstance(table, StarTable) and to == star.name
    )
    found = {}
    for name in star.columns.names:
        same_name = [ColumnOf(table.name, name) for table in inputs if name in table.columns.names]
        origin = star.derived_from.get(name) or keys or tuple(same_name)
        unknown = [f"{of.table}.{of.column}" for of in origin if of.column not in tables[of.table].columns.names]
        if unknown or not origin or (len(same_name) > 1 and origin == tuple(same_name)):
            raise ValueError(f"{star.name}.{name}: declare what it is derived_from ({unknown or same_name})")
        found[name] = origin
    return found


def sources(star: StarTable, tables: Mapping[str, Table]) -> dict[str, tuple[ColumnOf, ...]]:
    """Tell for each column of a star table which columns of source tables it is made of, in the end."""

    def of(origin: ColumnOf) -> tuple[ColumnOf, ...]:
        table = tables[origin.table]
        return sources(table, tables)[origin.column] if isinstance(table, StarTable) else (origin,)

    return {
        column: tuple(dict.fromkeys(source for origin in origins for source in of(origin)))
        for column, origins in lineage(star, tables).items()
    }


def described(star: StarTable, tables: Mapping[str, Table]) -> StarTable:
    """Give a star table whose columns are described, and personal, as the columns they are made of, if not otherwise.

    Raises:
        ValueError: a column has no origin, or several of its name.
    """
    origins = lineage(star, tables)
    return replace(
        star,
        columns=pa.schema(
            inherited(column, [tables[of.table].columns.field(of.column) for of in origins[column.name]])
            for column in star.columns
        ),
    )


def star_table(
    *,
    primary_key: tuple[str, ...],
    columns: pa.Schema,
    foreign_keys: Mapping[str, str] | None = None,
    record_id: str | None = None,
    derived_from: Mapping[str, str] | None = None,
) -> Callable[[Transform], StarTable]:
    """Declare the star table that a function makes; name and description are the function's own.

    `derived_from` names, for a column made of others, those: `"staff.staff_id"`, separated by blanks.
    """
    origins = {
        column: tuple(ColumnOf(*origin.split(".")) for origin in text.split())
        for column, text in (derived_from or {}).items()
    }

    def declare(transform: Transform) -> StarTable:
        return StarTable(
            name=transform.__name__,
            description=inspect.getdoc(transform) or "",
            primary_key=primary_key,
            columns=columns,
            foreign_keys=foreign_keys or {},
            record_id=record_id,
            derived_from=origins,
            transform=transform,
        )

    return declare
