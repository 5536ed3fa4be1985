"""Failures that trying again cannot mend."""


class PermanentError(Exception):
    """Bad data, a bad setting or a broken promise: a person must act. Everything else may be an outage."""
