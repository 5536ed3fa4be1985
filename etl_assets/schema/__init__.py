"""The vocabulary every stage shares: columns, tables, types, validation, errors. No Dagster, no cloud, no driver."""
