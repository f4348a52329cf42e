"""A marimo app to explore the results of a study, and its figures."""
