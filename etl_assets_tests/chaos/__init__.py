"""Attempts to break the promises: processes are killed, servers stopped, connections cut."""

import os

SEED = int(os.environ.get("CHAOS_SEED", "20261123"))
"""The seed of all random choices."""
