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
from etl_assets.schema.table import Catalog, JoinDependency, SharedColumns, Table

Transform = Callable[..., pd.DataFrame]


class ColumnOf(NamedTuple):
    """A column of a table."""

    table: str
    column: str


@dataclass(frozen=True, kw_only=True)
class StarTable(Table):
    """A table of the star, and the function that makes its rows.

    record_id: the serial key of a fact's versions; None for a dimension.
    derived_from: by column, the columns it is derived from, unless it is the one of the same name.
    dropped: columns it had, and that the warehouse may drop. Others that are no longer declared are kept.
    computed: columns that are not copies of the column they are derived from, although they have its type: a full
        capture does not compare them. A table whose key is among them, because it leaves rows out, is not reconciled.
    event_time: the columns whose sum is the time (UTC) when a fact happened: a date and a time, or a timestamp.
    versions_of: the name of the table that keeps the latest of these versions; None for a declared table.

    Raises:
        ValueError: likewise, a column is declared and dropped, or a computed one or an event time is not declared.
    """

    transform: Transform
    record_id: str | None = None
    derived_from: Mapping[str, tuple[ColumnOf, ...]] = field(default_factory=dict)
    dropped: tuple[str, ...] = ()
    computed: tuple[str, ...] = ()
    event_time: tuple[str, ...] = ()
    versions_of: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if both := {*self.dropped} & {*self.captured_columns.names, self.record_id}:
            raise ValueError(f"{self.name}: columns that are declared and dropped: {sorted(map(str, both))}")
        if unknown := {*self.event_time} - {*self.columns.names}:
            raise ValueError(f"{self.name}: columns of the event time that are not declared: {sorted(unknown)}")
        if unknown := {*self.computed} - {*self.columns.names}:
            raise ValueError(f"{self.name}: computed columns that are not declared: {sorted(unknown)}")

    @property
    def keeps_every_version(self) -> bool:
        """Whether the warehouse table of this name keeps every version of a row, or only the latest (dimensions)."""
        return self.record_id is not None or self.versions_of is not None

    @property
    def versions(self) -> "StarTable":
        """The table that keeps every version of its rows: a fact itself, or another next to a dimension."""
        if self.keeps_every_version:
            return self
        description = f"Every version of each row of {self.name}."
        return replace(self, name=f"{self.name}_versions", description=description, versions_of=self.name)

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


def shared_columns(catalog: Catalog[StarTable]) -> tuple[SharedColumns, ...]:
    """Return the columns that star tables take as they are from their first input, a source table.

    Star tables are left out whose rows are not those of that table: they are made from star tables, or have another
    key.
    """
    found = []
    for star in catalog.stars:
        source = catalog[star.inputs(catalog.stars)[0]]
        columns = {
            name: origins[0].column
            for name, origins in lineage(star, catalog).items()
            if name not in star.computed
            and [each.table for each in origins] == [source.name]
            and source.columns.field(origins[0].column).type == star.columns.field(name).type
        }
        key = [columns.get(name) for name in star.primary_key]
        if not isinstance(source, StarTable) and {*key} == {*source.primary_key}:
            found.append(SharedColumns(star.name, source.name, columns))
    return tuple(found)


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
    event_time: tuple[str, ...] = (),
    computed: tuple[str, ...] = (),
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
            event_time=event_time,
            computed=computed,
            transform=transform,
        )

    return declare
