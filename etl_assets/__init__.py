"""totesys ETL: captures changed rows of the totesys database, and keeps every version in a warehouse.

schema           the shared vocabulary: columns, tables, types, validation
adapters         PostgreSQL, object stores, settings, logs, metrics
totesys          the tables of the source
catalog          how a table appears in Dagster
ingestion        captures changed rows as CSV files, which are never overwritten
transformation   turns captures into three star schemas, as Parquet files
lake             reads current rows and history from these files, without Dagster or the warehouse
warehouse        loads the stars into PostgreSQL, with the history of every fact
reports          answers queries on the warehouse, with charts, on one HTML page; shows the state of the platform
automation       jobs, schedules, sensors, alerts
definitions      what Dagster loads
preflight        whether everything that these need is reached, and allowed
simulator        a simulated source, and the demo
"""
