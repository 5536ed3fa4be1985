"""Checksums of the rows of a table, computed by PostgreSQL: the same wherever the rows are the same.

They do not depend on the order of rows, the version of the server (13 or newer), the encoding of the database or the
declared scale of a number. Both ends of the platform compute them: docs/adr/0016-full-captures-are-audits.md.
"""

from collections.abc import Iterable, Mapping

import pyarrow as pa

from etl_assets.adapters.postgres import Connection, StatementRefusedError, quote_identifier, savepoint, server_encoding
from etl_assets.ingestion.changes import relation
from etl_assets.ingestion.live_tables import live_name
from etl_assets.ingestion.manifest import LiveTable, SourceChecksum
from etl_assets.schema.table import SharedColumns, Table

_HASH_DIGITS = 16  # 64 bits


def source_checksums(
    connection: Connection, tables: Iterable[Table], live: Mapping[str, LiveTable], shared: Iterable[SharedColumns]
) -> dict[str, SourceChecksum]:
    """Return by star table the rows and the checksum of its source table, over the shared columns that can be read."""
    declared = {table.name: table for table in tables}
    checksums = {}
    for each in shared:
        present = live[each.table].names
        fields = {here: declared[each.table].columns.field(there) for here, there in each.columns.items()}
        names = {here: name for here, field in fields.items() if (name := live_name(field, present)) in present}
        types = {here: fields[here].type for here in names}
        rows = ", ".join(f"{quote_identifier(name)} AS {quote_identifier(here)}" for here, name in names.items())
        count, checksum = rows_and_checksum(connection, f"SELECT {rows} FROM {relation(each.table)}", types)
        checksums[each.star] = SourceChecksum(count, {here: str(type_) for here, type_ in types.items()}, checksum)
    return checksums


def rows_and_checksum(
    connection: Connection, query: str, columns: Mapping[str, pa.DataType], **values: object
) -> tuple[int, str | None]:
    """Return the number of rows of a query, and the checksum over these columns of it; None if it is refused."""
    # Bytes of an SQL_ASCII database may be of any encoding: those that are not UTF-8 are hashed as they are.
    encoding = "SQL_ASCII" if server_encoding(connection) == "SQL_ASCII" else "UTF8"
    text = " || ',' || ".join(_text(quote_identifier(name), type_) for name, type_ in columns.items())
    digits = f"left(md5(convert_to({text}, '{encoding}')), {_HASH_DIGITS})"
    checksum = f"CAST(coalesce(sum(CAST(CAST('x' || {digits} AS bit(64)) AS bigint)), 0) AS text)"
    try:
        with savepoint(connection):
            [[count, found]] = connection.run(f"SELECT count(*), {checksum} FROM ({query}) versions", **values)
    except StatementRefusedError:  # no MD5 in FIPS mode, or a character that UTF-8 lacks
        [[count]] = connection.run(f"SELECT count(*) FROM ({query}) versions", **values)
        return int(count), None
    return int(count), str(found)


def _text(column: str, type_: pa.DataType) -> str:
    """Return the text of a value, in which null is not quoted and text is."""
    if pa.types.is_string(type_):  # concat takes enums too, and keeps the blanks of character(n)
        return f"CASE WHEN {column} IS NULL THEN 'NULL' ELSE quote_literal(concat({column})) END"
    value = f"trim_scale({column})" if pa.types.is_decimal(type_) else column
    return f"coalesce(CAST({value} AS text), 'NULL')"
