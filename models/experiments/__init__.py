"""Experiments, one per module; the module's name is the experiment's name."""
