"""Dagster's UI and the report page in Chromium."""
