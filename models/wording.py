"""Formats counts and sizes in messages."""


def plural(count: int, one: str, many: str = "") -> str:
    """A count with its noun: `1 run`, `2 runs`; `many` is an irregular plural."""
    return f"{count} {one if count == 1 else many or f'{one}s'}"


def size(count: float) -> str:
    """A number of bytes in readable units."""
    from humanize import naturalsize

    return naturalsize(count, format="%.3g")
