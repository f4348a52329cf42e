"""What is run, as data: RunSpec, its schedules, starting points and settings."""
