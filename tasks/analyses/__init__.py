"""Analyses, one a module; the module's name is the analysis's name."""
