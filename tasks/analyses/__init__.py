"""Analyses, one per module; the module's name is the analysis's name."""
