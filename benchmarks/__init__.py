"""How near the limits the platform is, how far ahead of others, and how it grows: `make bench`, `make bench-smoke`."""
