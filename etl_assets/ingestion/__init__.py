"""totesys → ingestion bucket: changes, captured as CSV. One row is a source row as of one capture."""
