"""Stores checkpoints, results and cubes. Independent of `models`."""
