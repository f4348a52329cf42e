"""Data sets, one a module."""
