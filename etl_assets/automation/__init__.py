"""When things run, and who is told when they fail: jobs, schedules, sensors, alerts."""
