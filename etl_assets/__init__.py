"""totesys ETL: every change of totesys, kept for ever, in a warehouse that analysts query.

totesys          the operational PostgreSQL, read only (`totesys.py` declares its tables)
ingestion        what changed, captured as CSV that is never overwritten (`ingestion.py`, `captures.py`)
transformation   three star schemas, as Parquet (`transformation/`)
warehouse        the stars in PostgreSQL, with the history of every fact (`warehouse/`)
reports          questions to the warehouse, drawn, and a page of them all (`reports/`)
"""
