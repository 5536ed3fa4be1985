"""The views of the warehouse, as queries: of one star table each, and those that join each fact to its dimensions."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from enum import Enum, auto

from pg8000.native import literal

from etl_assets.adapters.postgres import column_list, quote_identifier
from etl_assets.schema.columns import CAPTURED_AT, DELETED, VALID_FROM, VALID_TO
from etl_assets.transformation.star_table import StarTable
from etl_assets.warehouse.relations import MOMENT, TABLES, as_of, qualified, relation


class _Shape(Enum):
    """What a view has of the versions of a table: all; the latest of each key; the latest that is not deleted; or all
    that are not, with their validity."""

    VERSIONS = auto()
    LATEST = auto()
    CURRENT = auto()
    HISTORY = auto()


def _shapes(star: StarTable) -> dict[str, _Shape]:
    """Return the shapes of the views of a table of versions, by name. A table of the latest versions has none."""
    if not star.keeps_every_version:
        return {}
    if star.versions_of:
        views = {f"{star.versions_of}_history": _Shape.HISTORY}
        tables = {star.versions_of: _Shape.LATEST, star.name: _Shape.VERSIONS}
    else:
        views = {f"{star.name}_current": _Shape.CURRENT, f"{star.name}_history": _Shape.HISTORY}
        tables = {star.name: _Shape.VERSIONS}
    return views | {as_of(name): shape for name, shape in (tables | views).items()}


def version_columns(star: StarTable) -> tuple[str, ...]:
    """Return the columns of a table of versions and of its views, without validity."""
    return (*([star.record_id] if star.record_id else []), *star.captured_columns.names, DELETED)


def view_columns(star: StarTable) -> dict[str, tuple[str, ...]]:
    """Return the declared columns of the views of a table of versions, by name."""
    validity = {_Shape.HISTORY: (VALID_FROM, VALID_TO)}
    return {name: (*version_columns(star), *validity.get(shape, ())) for name, shape in _shapes(star).items()}


def view_queries(
    star: StarTable, columns: Mapping[str, Iterable[str]], primary_key: Iterable[str] = ()
) -> dict[str, str]:
    """Return the queries of the views of a table of versions by name, with these columns of each, in this order.

    A `primary_key` overrides the declared one.
    """
    shapes = _shapes(star)
    key = tuple(primary_key or star.primary_key)
    return {name: _query(star, name, shapes[name], tuple(selected), key) for name, selected in columns.items()}


def _query(star: StarTable, name: str, shape: _Shape, columns: Sequence[str], primary_key: Sequence[str]) -> str:
    stored = column_list([column for column in columns if column not in (VALID_FROM, VALID_TO)])
    key, versions = column_list(primary_key), f"FROM {relation(star)}"
    if until := _until(name):
        versions += f" WHERE {until}"
    if shape is _Shape.VERSIONS:
        return f"""
            SELECT {stored} {versions}"""
    if shape is _Shape.HISTORY:
        return f"""
            SELECT {column_list(columns)} FROM (
                SELECT {stored}, {_validity(star, key)}
                {versions}
            ) versions
            WHERE NOT {DELETED}"""
    condition = f"""
            WHERE NOT {DELETED}"""
    return f"""
            SELECT {stored} FROM (
                SELECT DISTINCT ON ({key}) {stored} {versions} ORDER BY {key}, {CAPTURED_AT} DESC
            ) latest{condition if shape is _Shape.CURRENT else ""}"""


def _until(view: str) -> str:
    """Return the condition that a version is not later than what a view shows, if it does not show all.

    A subquery is evaluated only once.
    """
    return f"{CAPTURED_AT} <= (SELECT {MOMENT}())" if view.startswith(as_of("")) else ""


def _validity(star: StarTable, key: str) -> str:
    """Return the columns of a version's validity.

    The first version of a dimension row is valid from the beginning of time: facts may be older than the first capture.
    """
    by_time = f"OVER (PARTITION BY {key} ORDER BY {CAPTURED_AT})"
    valid_from = CAPTURED_AT
    if star.versions_of:
        valid_from = f"CASE WHEN lag({CAPTURED_AT}) {by_time} IS NULL THEN '-infinity' ELSE {CAPTURED_AT} END"
    return f"""{valid_from} AS {VALID_FROM},
                       lead({CAPTURED_AT}, 1, 'infinity') {by_time} AS {VALID_TO}"""


def view_statements(
    queries: Mapping[str, str], options: Mapping[str, Mapping[str, str]] | None = None, *, replace: bool = False
) -> dict[str, str]:
    """Return the statements that create views, or replace them, by name. `options` are by name, too."""
    create = "CREATE OR REPLACE VIEW" if replace else "CREATE VIEW"
    statements = {}
    for name, query in queries.items():
        settings = (options or {}).get(name, {}).items()
        with_ = ", ".join(f"{quote_identifier(option)} = {literal(value)}" for option, value in settings)
        statements[name] = f"{create} {qualified(name)} {f'WITH ({with_}) ' if with_ else ''}AS{query}"
    return statements


def views_version(queries: Mapping[str, str]) -> str:
    """Return a hash of the queries of views, as noted in `tables`."""
    return hashlib.sha256(repr(sorted(queries.items())).encode()).hexdigest()[:16]


def note_views_statement(name: str, queries: Mapping[str, str]) -> str:
    """Return the statement that notes which queries the views of a table have."""
    values = f"{literal(name)}, {literal(views_version(queries))}"
    return (
        f"INSERT INTO {TABLES} (star_table, views) VALUES ({values}) "
        "ON CONFLICT (star_table) DO UPDATE SET views = excluded.views"
    )


def as_was_name(fact: StarTable) -> str:
    """Return the name of the view that joins a fact to the versions that its dimensions had when it happened."""
    return f"{fact.name}_as_was"


@dataclass(frozen=True)
class DimensionJoin:
    """How such a view joins a dimension: by which foreign key of the fact, with which of its columns, by their names
    in the view. These begin with the name of the foreign key."""

    foreign_key: str
    dimension: StarTable
    columns: Mapping[str, str]

    @property
    def alias(self) -> str:
        """The quoted name of the dimension in the query."""
        return quote_identifier(f"{self.foreign_key}_version")

    def renamed(self, renames: Mapping[str, str]) -> dict[str, str]:
        """Return the new names in the view, by the old ones, where columns of the dimension are renamed."""
        names = {column: name for name, column in self.columns.items()}
        return {_as_was_column(self.foreign_key, old): names[new] for old, new in renames.items() if new in names}


def _as_was_column(foreign_key: str, column: str, taken: Set[str] = frozenset()) -> str:
    """Return the name in the view of a column of a dimension: one that is not taken."""
    prefix = f"{foreign_key.removesuffix('_id')}_"
    name = column if column.startswith(prefix) else f"{prefix}{column}"
    while name in taken:
        name = f"{prefix}{name}"
    return name


def as_was_joins(fact: StarTable, stars: Iterable[StarTable]) -> list[DimensionJoin]:
    """Return the joins of such a view. Without event time, there is none, and no view.

    Dimensions made from star tables, such as a calendar, are left out: they have no history of their own.
    """
    by_name = {star.name: star for star in stars}
    joins: list[DimensionJoin] = []
    taken = {*version_columns(fact)}
    for foreign_key, to in fact.foreign_keys.items() if fact.record_id and fact.event_time else ():
        dimension = by_name.get(to)
        if dimension is None or {*dimension.inputs(by_name.values())} & by_name.keys():
            continue
        columns: dict[str, str] = {}
        for column in dimension.columns.names:
            if column not in dimension.primary_key:
                columns[_as_was_column(foreign_key, column, taken | columns.keys())] = column
        taken |= columns.keys()
        joins.append(DimensionJoin(foreign_key, dimension, columns))
    return joins


def as_was_tables(fact: StarTable, stars: Iterable[StarTable]) -> set[str]:
    """Return the names of the star tables that such a view reads."""
    return {fact.name, *(join.dimension.name for join in as_was_joins(fact, stars))}


def as_was_columns(fact: StarTable, stars: Iterable[StarTable]) -> tuple[str, ...]:
    """Return the columns of such a view."""
    return (*version_columns(fact), *(name for join in as_was_joins(fact, stars) for name in join.columns))


def as_was_queries(
    fact: StarTable, stars: Iterable[StarTable], columns: Mapping[str, Iterable[str]] | None = None
) -> dict[str, str]:
    """Return the queries of such a view and its twin as of a moment, by name; none if there is nothing to join.

    `columns` are those of each view that is there already, in order.
    """
    joins, name = as_was_joins(fact, stars), as_was_name(fact)
    if not joins and not columns:
        return {}
    declared = as_was_columns(fact, stars)
    return {view: _as_was_query(fact, joins, view, (columns or {}).get(view, declared)) for view in (name, as_of(name))}


def view_names(stars: Iterable[StarTable]) -> set[str]:
    """Return the names of all views of star tables."""
    stars = tuple(stars)
    return {name for star in stars for name in (*view_columns(star.versions), *as_was_queries(star, stars))}


def _as_was_query(fact: StarTable, joins: Iterable[DimensionJoin], view: str, columns: Iterable[str]) -> str:
    """Return the query. A fact may refer to a row that has been deleted: that ends with its next version only.

    The columns of its tables are sorted: in which order these have them is no reason to replace the view.
    """
    of_fact = sorted(version_columns(fact))
    event_time = " + ".join(f"fact.{quote_identifier(column)}" for column in fact.event_time)
    origins, joined = {name: f"fact.{quote_identifier(name)}" for name in of_fact}, ""
    conditions = " AND ".join(filter(None, (f"NOT {DELETED}", _until(view))))
    for join in joins:
        versions, key = join.dimension.versions, column_list(join.dimension.primary_key)
        origins |= {
            name: f"{join.alias}.{quote_identifier(column)} AS {quote_identifier(name)}"
            for name, column in join.columns.items()
        }
        joined += f"""
            LEFT JOIN (
                SELECT {column_list(sorted(join.dimension.columns.names))}, {_validity(versions, key)}
                FROM {relation(versions)} WHERE {conditions}
            ) {join.alias} ON {join.alias}.{key} = fact.{quote_identifier(join.foreign_key)}
            AND {join.alias}.{VALID_FROM} <= {event_time} AND {event_time} < {join.alias}.{VALID_TO}"""
    return f"""
            SELECT {", ".join(origins[name] for name in columns)}
            FROM ({_query(fact, view, _Shape.CURRENT, of_fact, fact.primary_key)}
            ) fact{joined}"""
