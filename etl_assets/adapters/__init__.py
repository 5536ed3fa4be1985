"""The outside world: PostgreSQL, object stores, environment variables, logs, metrics."""
