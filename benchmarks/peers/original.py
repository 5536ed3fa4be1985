# /// script
# requires-python = ">=3.11"
# dependencies = ["pg8000==1.31.6", "pandas==3.1.1"]
# ///
"""The original design: pg8000 rows → pandas → CSV → row by row INSERTs.

Arguments: the URLs of totesys and of a warehouse, and the names of the tables.
"""

import json
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path
from time import perf_counter
from urllib.parse import urlsplit

import pandas as pd
import pg8000.native


def _connect(url: str) -> pg8000.native.Connection:
    parts = urlsplit(url)
    return pg8000.native.Connection(parts.username, parts.hostname, parts.path.strip("/"), parts.port, parts.password)


def _main(totesys: str, warehouse: str, *tables: str) -> None:
    started = perf_counter()
    source, target = _connect(totesys), _connect(warehouse)
    with tempfile.TemporaryDirectory() as folder:
        for table in tables:
            rows = source.run(f"SELECT * FROM {table}")
            names = [column["name"] for column in source.columns]
            file = Path(folder) / f"{table}.csv"
            pd.DataFrame(rows, columns=names).to_csv(file, index=False)
            frame = pd.read_csv(file, dtype=str, keep_default_na=False)
            target.run(f"CREATE TABLE {table} ({', '.join(f'{name} text' for name in names)})")
            insert = f"INSERT INTO {table} VALUES ({', '.join(f':{name}' for name in names)})"
            target.run("START TRANSACTION")
            for row in frame.itertuples(index=False):
                target.run(insert, **dict(zip(names, row, strict=True)))
            target.run("COMMIT")
    source.close()
    target.close()
    taken = perf_counter() - started
    versions = {name: version(name) for name in ("pg8000", "pandas")}
    print(json.dumps({"seconds": taken, "versions": versions}))


_main(*sys.argv[1:])
