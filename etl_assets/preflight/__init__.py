"""The preflight: whether everything that the platform needs is reached, and whether it may do what it does."""
