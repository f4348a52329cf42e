"""Graphs of runs: base runs, what starts from their checkpoints, and what is measured between them."""
