"""Attempts to break the promises: real processes killed, real servers stopped, real sockets cut."""

import os

SEED = int(os.environ.get("CHAOS_SEED", "20261123"))
"""What is drawn at random is drawn from this."""
