"""The figures of a sweep and the page that shows them, one module a subject."""

from specdyn.tasks.figures.report import write_report

__all__ = ["write_report"]
