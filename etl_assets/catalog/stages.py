"""The stages, and the jobs over them. A stage's name is its folder, its asset key prefix and its Dagster group."""

TOTESYS = "totesys"
INGESTION = "ingestion"
TRANSFORMATION = "transformation"
WAREHOUSE = "warehouse"
REPORTS = "reports"

# The ops that capture and load. Other ops are named by Dagster after their asset, in the same form.
CAPTURE_OP = f"{INGESTION}__capture"
LOAD_OP = f"{WAREHOUSE}__load"

ETL = "etl"
REPLAY = "replay"
REBUILD = "rebuild"
REPORT = "report"
