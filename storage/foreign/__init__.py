"""Finds and reads checkpoints written by other programs."""
