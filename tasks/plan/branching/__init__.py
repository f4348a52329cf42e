"""Graphs of runs: trunks, runs that start from their checkpoints, and measurements between them."""
