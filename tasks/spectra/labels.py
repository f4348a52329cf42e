"""Labels and versions of what is measured, known without torch and scipy, which measure it."""

DRIVERS = ("missing", "svd_float32", "gram_float64", "svd_float64")
"""Meanings of `Factors.driver`, and of the stored variable `driver`."""
SIDES = ("left", "right")
HALVES = ("top", "bottom")
"""Of the singular values, kept by themselves."""
SUBSPACES = (1, 2, 4, 8, 16, 32, 64)
"""Numbers of leading singular vectors whose spans are compared."""
NULLS = ("gaussian", "shuffled")
"""Labels of the dimension `null`."""
COMPONENTS = 10
"""Principal components that are kept of a trajectory."""
FACTS_VERSION = 1
"""To be raised when a number in facts.py changes: cubes are then gathered again."""
