"""Runs as data: RunSpec, its schedules, starting points and settings."""
