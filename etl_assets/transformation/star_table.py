"""A star table: a declaration on top of a pure function, pandas in, pandas out.

The parameters of the function name the tables it needs: captured tables of the source, or star tables. `**facts` stands
for every star table that references this one, with the distinct values of its foreign keys in each capture; which of
them stand in one row means nothing. Any other frame has the declared columns of its table, as Arrow dtypes, and
`captured_at`: they hold the rows of several captures, and rows are joined within one. A function of one table is called
with batches of it, so each of its rows must come from one row. The result may have more columns than declared; it is
validated against the declared ones. A fact has one row per row of its first parameter.
"""

import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import pandas as pd
import pyarrow as pa

from etl_assets.schema.columns import with_origins
from etl_assets.schema.table import Catalog, JoinDependency, Table

Transform = Callable[..., pd.DataFrame]


class ColumnOf(NamedTuple):
    """A column of a table."""

    table: str
    column: str


@dataclass(frozen=True, kw_only=True)
class StarTable(Table):
    """A table of the star, and the function that makes its rows.

    record_id: the serial key of a table that keeps every version; None for one that keeps the latest.
    derived_from: by column, the columns it is derived from, unless it is the one of the same name.
    dropped: columns it had, and that the warehouse may drop. Others that are no longer declared are kept.

    Raises:
        ValueError: likewise, or a column is declared and dropped.
    """

    transform: Transform
    record_id: str | None = None
    derived_from: Mapping[str, tuple[ColumnOf, ...]] = field(default_factory=dict)
    dropped: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        if both := {*self.dropped} & {*self.captured_columns.names, self.record_id}:
            raise ValueError(f"{self.name}: columns that are declared and dropped: {sorted(map(str, both))}")

    @property
    def keeps_every_version(self) -> bool:
        """Whether the warehouse keeps every version of a row (facts), or only the latest (dimensions)."""
        return self.record_id is not None

    def __call__(self, *args: pd.DataFrame, **kwargs: pd.DataFrame) -> pd.DataFrame:
        """Return its rows."""
        return self.transform(*args, **kwargs)

    def source_key(self, input_columns: Iterable[str]) -> tuple[str, ...] | None:
        """Return the columns of an input that the primary key is taken from, or None if it has no such columns."""
        origins = {name: self.derived_from.get(name, (ColumnOf("", name),)) for name in self.primary_key}
        columns = tuple(origin[0].column for origin in origins.values() if len(origin) == 1)
        return columns if len(columns) == len(origins) and {*columns} <= {*input_columns} else None

    def inputs(self, star_tables: Iterable["StarTable"]) -> tuple[str, ...]:
        """Return the names of the tables it needs."""
        needed: list[str] = []
        for parameter in inspect.signature(self.transform).parameters.values():
            if parameter.kind is inspect.Parameter.VAR_KEYWORD:
                needed += [star.name for star in star_tables if self.name in star.foreign_keys.values()]
            else:
                needed.append(parameter.name)
        return tuple(needed)


def join_dependencies(catalog: Catalog[StarTable]) -> tuple[JoinDependency, ...]:
    """Return which source tables the star tables join, along the foreign keys of the source."""
    dependencies: dict[JoinDependency, None] = {}
    for star in catalog.stars:
        inputs = star.inputs(catalog.stars)
        for table in catalog.sources:
            if table.name in inputs:
                for column, to in table.foreign_keys.items():
                    if to in inputs and to != table.name:
                        dependencies[JoinDependency(table.name, column, to)] = None
    return tuple(dependencies)


def lineage(star: StarTable, catalog: Catalog[StarTable]) -> dict[str, tuple[ColumnOf, ...]]:
    """Return by column of a star table the columns of its inputs it is derived from.

    These are the declared ones; or the one of the same name; or, for `**facts`, every foreign key that references it.

    Raises:
        ValueError: a column has no origin, or several of its name.
    """
    inputs = [catalog[name] for name in star.inputs(catalog.stars)]
    keys = tuple(
        ColumnOf(table.name, column)
        for table in inputs
        for column, to in table.foreign_keys.items()
        if isinstance(table, StarTable) and to == star.name
    )
    origins = {}
    for name in star.columns.names:
        same_name = [ColumnOf(table.name, name) for table in inputs if name in table.columns.names]
        origin = star.derived_from.get(name) or keys or tuple(same_name)
        unknown = [f"{of.table}.{of.column}" for of in origin if of.column not in catalog[of.table].columns.names]
        if unknown or not origin or (len(same_name) > 1 and origin == tuple(same_name)):
            raise ValueError(f"{star.name}.{name}: declare what it is derived_from ({unknown or same_name})")
        origins[name] = origin
    return origins


def source_lineage(star: StarTable, catalog: Catalog[StarTable]) -> dict[str, tuple[ColumnOf, ...]]:
    """Return by column of a star table the columns of source tables it is derived from, through other star tables."""

    def sources_of(origin: ColumnOf) -> tuple[ColumnOf, ...]:
        table = catalog[origin.table]
        return source_lineage(table, catalog)[origin.column] if isinstance(table, StarTable) else (origin,)

    return {
        column: tuple(dict.fromkeys(source for origin in origins for source in sources_of(origin)))
        for column, origins in lineage(star, catalog).items()
    }


def with_descriptions(catalog: Catalog[StarTable]) -> Catalog[StarTable]:
    """Return the catalog with star columns that inherit descriptions and personal marks from their origins.

    Raises:
        ValueError: a column has no origin, or several of its name.
    """

    def described(star: StarTable) -> StarTable:
        origins = lineage(star, catalog)
        columns = (
            with_origins(column, [catalog[of.table].columns.field(of.column) for of in origins[column.name]])
            for column in star.columns
        )
        return replace(star, columns=pa.schema(columns))

    return replace(catalog, stars=tuple(map(described, catalog.stars)))


def star_table(
    *,
    primary_key: tuple[str, ...],
    columns: pa.Schema,
    foreign_keys: Mapping[str, str] | None = None,
    record_id: str | None = None,
    derived_from: Mapping[str, str] | None = None,
    dropped: tuple[str, ...] = (),
) -> Callable[[Transform], StarTable]:
    """Declare the star table that a function makes. The function's name and docstring are the table's.

    `derived_from` gives by column the columns it is derived from, as `"staff.staff_id"`, separated by blanks.
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
            dropped=dropped,
            transform=transform,
        )

    return declare
