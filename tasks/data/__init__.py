"""Downloads, verifies and prepares data sets."""
