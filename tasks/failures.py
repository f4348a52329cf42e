"""Errors of units of work that a retry cannot fix; importable without torch."""


class Diverged(Exception):
    """The loss became NaN or infinite; the message says in which run and at which step."""


class NotFinite(ValueError):
    """A matrix contains NaN or infinity; the message says which layer and step."""
