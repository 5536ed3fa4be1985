"""Benchmarks: the platform against its limits and its peers, and how it grows. `make bench`, `make bench-smoke`."""
