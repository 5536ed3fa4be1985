"""`docs/warehouse.md`, written from the declarations: `make docs`."""

from collections.abc import Iterable, Iterator, Sequence

from etl_assets.databases import sql_type
from etl_assets.tables import Table
from etl_assets.totesys import TOTESYS_TABLES
from etl_assets.transformation import STAR_TABLES
from etl_assets.transformation.declare import ColumnOf, StarTable, described, sources
from etl_assets.warehouse.schema import ANALYST, WAREHOUSE, descriptions

_COLUMNS_NAMED = 4

_HEAD = f"""\
<!-- Written by `make docs` from etl_assets/transformation and etl_assets/warehouse/schema.py: change those. -->

# The warehouse

Schema `{WAREHOUSE}`: three stars, one for each fact, whose dimensions they share. A fact has a row for every version of
an event that a capture of totesys saw, a dimension the latest of each entity. Every row has `captured_at`.

- **As it is now**: the view `<fact>_current`, one row for each event that totesys has.
- **As it was at a time T**: `SELECT … FROM {WAREHOUSE}.<fact>_history WHERE valid_from <= T AND T < valid_to`, one row
  for each event that totesys had then.
- **How it changed**: `<fact>_history` by key, in the order of `valid_from`.
- **How fresh it is**: `SELECT max(captured_at) FROM {WAREHOUSE}.loads`, UTC.

Who only reads is a member of the role `{ANALYST}`, which may `SELECT` what is on this page and nothing else:
`CREATE ROLE ada LOGIN PASSWORD '…' IN ROLE {ANALYST}`. Foreign keys and comments are in the database, where Power BI,
QuickSight, Metabase and Superset read them; give them the `_current` views for figures of today.
"""


def documentation(star_tables: Sequence[StarTable], source_tables: Iterable[Table]) -> str:
    """Write what is in the warehouse, as Markdown with a diagram of each star."""
    tables: dict[str, Table] = {table.name: table for table in (*source_tables, *star_tables)}
    stars = [described(star, tables) for star in star_tables]
    parts = [_HEAD]
    parts += [_diagram(star) for star in stars if star.record_id]
    parts += [_described(star, tables) for star in stars]
    return "\n".join(parts)


def _diagram(fact: StarTable) -> str:
    keys: dict[str, list[str]] = {}
    for column, to in fact.foreign_keys.items():
        keys.setdefault(to, []).append(column)
    relations = "\n".join(f'    {to} ||--o{{ {fact.name} : "{", ".join(columns)}"' for to, columns in keys.items())
    return f"## {fact.name}\n\n```mermaid\nerDiagram\n{relations}\n```\n"


def _described(star: StarTable, tables: dict[str, Table]) -> str:
    made_of = sources(star, tables)
    texts = descriptions(star)
    key = ", ".join(star.primary_key)
    unique = f"One row for each `{key}` and `captured_at`." if star.record_id else f"One row for each `{key}`."
    rows = "\n".join(
        f"| {column.name} | {sql_type(column.type)}{'' if column.nullable else ', not null'} | "
        f"{texts[star.name, column.name]}{_refers(star, column.name)} | "
        f"{_origins(made_of.get(column.name, ()))} |"
        for column in star.captured_columns
    )
    technical = "\n".join(_technical(star, texts))
    return (
        f"### {star.name}\n\n{star.description} {unique}\n\n"
        f"| column | type | what it holds | from totesys |\n|---|---|---|---|\n{rows}\n{technical}"
    )


def _origins(made_of: Sequence[ColumnOf]) -> str:
    if len(made_of) > _COLUMNS_NAMED:
        return f"{len(made_of)} columns of {', '.join(dict.fromkeys(of.table for of in made_of))}"
    return ", ".join(f"{of.table}.{of.column}" for of in made_of)


def _refers(star: StarTable, column: str) -> str:
    return f" Key of {star.foreign_keys[column]}." if column in star.foreign_keys else ""


def _technical(star: StarTable, texts: dict[tuple[str, str | None], str]) -> Iterator[str]:
    """Give the columns that the load adds to a fact."""
    for (name, column), text in texts.items():
        if name == star.name and column and column not in star.captured_columns.names:
            yield f"| {column} | {'serial' if column == star.record_id else 'boolean'}, not null | {text} | |"
    yield ""


if __name__ == "__main__":
    print(documentation(STAR_TABLES, TOTESYS_TABLES), end="")  # noqa: T201 (it is what it is run for)
