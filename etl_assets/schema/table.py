"""Tables, declared once: casts, DDL, catalog metadata and checks are all derived from the declaration."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from graphlib import TopologicalSorter
from typing import Generic, TypeVar

import pyarrow as pa

from etl_assets.schema.columns import CAPTURED_AT, CAPTURED_AT_TYPE, about
from etl_assets.schema.errors import PermanentError

_CAPTURED_AT_COLUMN = about("Time of the capture, UTC by the source's clock.", CAPTURED_AT_TYPE).with_name(CAPTURED_AT)


@dataclass(frozen=True, kw_only=True)
class Table:
    """A table.

    foreign_keys: maps a column to the table whose single-column primary key it holds.
    excluded: columns of a source table that are never captured. All others are, declared or not.

    Raises:
        ValueError: a key names a column that is not declared, there is no primary key, or a column is also excluded.
    """

    name: str
    description: str
    primary_key: tuple[str, ...]
    columns: pa.Schema
    foreign_keys: Mapping[str, str] = field(default_factory=dict)
    excluded: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        unknown = {*self.primary_key, *self.foreign_keys} - set(self.columns.names)
        if unknown or not self.primary_key:
            raise ValueError(f"{self.name}: keys that name no column: {sorted(unknown)}")
        if both := {*self.excluded} & {*self.columns.names}:
            raise ValueError(f"{self.name}: columns that are declared and excluded: {sorted(both)}")

    @property
    def captured_columns(self) -> pa.Schema:
        """Its columns, with `captured_at` at the end."""
        return self.columns.append(_CAPTURED_AT_COLUMN)


@dataclass(frozen=True)
class JoinDependency:
    """A star table joins `table` to `to` on `table.column`: their rows must be captured together."""

    table: str
    column: str
    to: str


@dataclass(frozen=True)
class SharedColumns:
    """The columns that a star table takes as they are from its first input, a source table: by name, the name there."""

    star: str
    table: str
    columns: Mapping[str, str]


AnyTable = TypeVar("AnyTable", bound=Table)


def referenced_first(tables: Iterable[AnyTable]) -> list[AnyTable]:
    """Return the tables in an order in which each follows those that its foreign keys reference."""
    by_name = {table.name: table for table in tables}
    order = TopologicalSorter({name: {*table.foreign_keys.values()} - {name} for name, table in by_name.items()})
    return [by_name[name] for name in order.static_order()]


class UnknownTableError(PermanentError):
    """There is no star table of a name."""

    def __init__(self, name: str, stars: Iterable[str]) -> None:
        super().__init__(f"{name} is no star table: the star tables are {', '.join(sorted(stars))}")


@dataclass(frozen=True)
class Catalog(Generic[AnyTable]):
    """All tables by name: those of the source, and those of the star, whose references are resolved here."""

    sources: tuple[Table, ...]
    stars: tuple[AnyTable, ...]

    @cached_property
    def _by_name(self) -> Mapping[str, Table]:
        tables: tuple[Table, ...] = (*self.sources, *self.stars)
        return {table.name: table for table in tables}

    @cached_property
    def _stars_by_name(self) -> Mapping[str, AnyTable]:
        return {star.name: star for star in self.stars}

    def __getitem__(self, name: str) -> Table:
        """Return a table of the source or of the star.

        Raises:
            KeyError: no table has this name.
        """
        return self._by_name[name]

    def star(self, name: str) -> AnyTable:
        """Return a star table.

        Raises:
            UnknownTableError: no star table has this name.
        """
        if name not in self._stars_by_name:
            raise UnknownTableError(name, self._stars_by_name)
        return self._stars_by_name[name]

    def references(self, star: AnyTable) -> dict[str, AnyTable]:
        """Return the star tables that a star table references, by foreign key column."""
        return {column: self.star(to) for column, to in star.foreign_keys.items()}
