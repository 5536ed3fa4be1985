"""What Dagster's catalogue shows of a table: read off its declaration."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from time import monotonic
from typing import Any

import dagster as dg
import pyarrow as pa

from etl_assets.databases import sql_type
from etl_assets.tables import CAPTURED_AT, Table, description_of, is_personal

Origins = Mapping[str, Sequence[tuple[Sequence[str], str]]]
"""For each column, those it is made of: the key of the asset, and the column there."""

PREVIEWED = 5
"""How many rows a preview shows."""

_MASK = "•••"
_LONGEST = 200


def table_metadata(
    table: Table, *, origins: Origins | None = None, table_name: str | None = None, versioned: bool = False
) -> Mapping[str, Any]:
    """Give the definition metadata of an asset: its column schema and lineage, and its name if it is a database table.

    `versioned` says that its rows are told apart by key and capture, not by key alone.
    """
    metadata: dict[str, Any] = {"dagster/column_schema": _schema(table, versioned=versioned)}
    if table_name:
        metadata["dagster/table_name"] = table_name
    if origins:
        metadata["dagster/column_lineage"] = dg.TableColumnLineage(
            {
                column: [dg.TableColumnDep(dg.AssetKey(key), of) for key, of in made_of]
                for column, made_of in origins.items()
            }
        )
    return metadata


def _schema(table: Table, *, versioned: bool) -> dg.TableSchema:
    key = ", ".join(table.primary_key)
    references = [f"FOREIGN KEY ({column}) REFERENCES {to}" for column, to in table.foreign_keys.items()]
    return dg.TableSchema(
        columns=[
            dg.TableColumn(
                column.name,
                type=sql_type(column.type),
                description=_described(table, column),
                constraints=dg.TableColumnConstraints(
                    nullable=column.nullable,
                    unique=not versioned and table.primary_key == (column.name,),
                ),
                tags={"personal": ""} if is_personal(column) else {},
            )
            for column in (table.captured_columns if versioned else table.columns)
        ],
        constraints=dg.TableConstraints(
            other=[f"UNIQUE ({key}, {CAPTURED_AT})" if versioned else f"PRIMARY KEY ({key})", *references]
        ),
    )


def _described(table: Table, column: pa.Field) -> str:
    to = table.foreign_keys.get(column.name)
    return " ".join(filter(None, [description_of(column), f"Key of {to}." if to else ""]))


def described(text: str, origins: Origins) -> str:
    """Give the description of an asset, with the lineage of its columns as a table: the open-source UI has no other."""
    lines = [f"| {column} | {', '.join(map(_name, made_of))} |" for column, made_of in origins.items()]
    return "\n".join([text, "", "| column | made of |", "|---|---|", *lines])


def _name(origin: tuple[Sequence[str], str]) -> str:
    key, column = origin
    return f"{'/'.join(key)}.{column}"


def preview(table: Table, rows: Iterable[Mapping[str, Any]]) -> dg.TableMetadataValue:
    """Show the first rows of a table; of what tells of a person, only that it is there."""
    shown = [
        dg.TableRecord({name: masked(table, name, value) for name, value in row.items()})
        for row in islice(rows, PREVIEWED)
    ]
    schema = dg.TableSchema([dg.TableColumn(name) for name in table.captured_columns.names])
    return dg.MetadataValue.table(shown, schema)


def masked(table: Table, column: str, value: Any) -> str | None:
    """Give a value of a column as it may be shown: cut if it is long, hidden if it tells of a person."""
    if value is None:
        return None
    if column in table.columns.names and is_personal(table.columns.field(column)):
        return _MASK
    text = str(value)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"


class Clock:
    """Takes the seconds that each part of a step needs."""

    def __init__(self) -> None:
        self._since = monotonic()
        self.seconds: defaultdict[str, float] = defaultdict(float)
        """By `seconds_<part>`, as metadata name them."""

    def lap(self, part: str) -> None:
        """Note that a part, which may come again, has ended, and the next begins."""
        now = monotonic()
        self.seconds[f"seconds_{part}"] += now - self._since
        self._since = now
