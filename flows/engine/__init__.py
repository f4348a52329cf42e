"""Runs units: executors (Ray or inline), resources, progress, logs."""
