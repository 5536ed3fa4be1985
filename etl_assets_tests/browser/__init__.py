"""Dagster's UI over a deployment, in Chromium."""
