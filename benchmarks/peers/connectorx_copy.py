# /// script
# requires-python = ">=3.11"
# dependencies = ["connectorx==0.4.6", "psycopg[binary]==3.3.9", "pyarrow==26.0.1"]
# ///
"""connectorx → Arrow → COPY by psycopg.

Arguments: the URLs of totesys and of a warehouse, and the names of the tables.
"""

import json
import sys
from importlib.metadata import version
from io import BytesIO
from time import perf_counter

import connectorx
import psycopg
import pyarrow as pa
from pyarrow import csv

_TYPES = {pa.bool_(): "boolean", pa.int32(): "integer", pa.int64(): "bigint", pa.date32(): "date"}


def _sql_type(type_: pa.DataType) -> str:
    if pa.types.is_timestamp(type_):
        return "timestamp"
    return "numeric" if pa.types.is_decimal(type_) or pa.types.is_floating(type_) else _TYPES.get(type_, "text")


def _main(totesys: str, warehouse: str, *tables: str) -> None:
    started = perf_counter()
    with psycopg.connect(warehouse) as target:
        for table in tables:
            rows = connectorx.read_sql(totesys, f"SELECT * FROM {table}", return_type="arrow")
            target.execute(f"CREATE TABLE {table} ({', '.join(f'{c.name} {_sql_type(c.type)}' for c in rows.schema)})")
            buffer = BytesIO()
            csv.write_csv(rows, buffer, csv.WriteOptions(include_header=False))
            with target.cursor().copy(f"COPY {table} FROM STDIN (FORMAT csv)") as copy:
                copy.write(buffer.getbuffer())
    taken = perf_counter() - started
    print(json.dumps({"seconds": taken, "versions": {name: version(name) for name in ("connectorx", "psycopg")}}))


_main(*sys.argv[1:])
