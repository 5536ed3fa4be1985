"""How a table appears in Dagster: stages, partitions, metadata, checks, retries."""
