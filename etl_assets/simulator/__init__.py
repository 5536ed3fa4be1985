"""Simulated source: the schema, history and activity of totesys, as measured before it was switched off in 2025."""
