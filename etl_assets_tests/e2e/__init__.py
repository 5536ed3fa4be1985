"""The parts of a deployment as separate processes, with the settings of `deploy/`."""
