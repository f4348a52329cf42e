"""What makes a unit of work fail in the same way however often it is tried; known without torch."""


class Diverged(Exception):
    """The loss became NaN or infinite: says which run and at which step."""


class NotFinite(ValueError):
    """A matrix holds NaN or infinity: says which layer of which step."""
