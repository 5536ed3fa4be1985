# /// script
# requires-python = ">=3.11"
# dependencies = ["dlt[postgres,sql_database]==1.31.0", "psycopg[binary]==3.3.9", "pyarrow==26.0.1", "pandas==3.1.1"]
# ///
"""dlt: source sql_database with the pyarrow backend → destination postgres.

Arguments: the URLs of totesys and of a warehouse, and the names of the tables.
"""

import json
import os
import sys
import tempfile
from importlib.metadata import version
from time import perf_counter

os.environ["RUNTIME__DLTHUB_TELEMETRY"] = "false"

import dlt
from dlt.sources.sql_database import sql_database


def _main(totesys: str, warehouse: str, *tables: str) -> None:
    started = perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        pipeline = dlt.pipeline(
            "totesys", pipelines_dir=folder, destination=dlt.destinations.postgres(warehouse), dataset_name="totesys"
        )
        source = sql_database(totesys, schema="public", table_names=list(tables), backend="pyarrow")
        pipeline.run(source, write_disposition="replace")
    taken = perf_counter() - started
    print(json.dumps({"seconds": taken, "versions": {"dlt": version("dlt")}}))


_main(*sys.argv[1:])
