"""A marimo app on the results of a study, and the pictures that it shows."""
