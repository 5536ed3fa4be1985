"""warehouse → reports: one `.sql` file per report, its chart, one HTML page of all, and the state of the platform."""
