"""What production runs, as processes of their own, from `deploy/`."""
