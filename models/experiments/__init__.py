"""Experiments, one a module; the module's name is the experiment's name."""
