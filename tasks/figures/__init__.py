"""The figures of a sweep and the page that shows them, one module per subject."""
