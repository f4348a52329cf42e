"""Words that messages share."""


def plural(count: int, one: str, many: str = "") -> str:
    """A count with its noun: `1 run`, `2 runs`; `many` where the plural is not `one` with an s."""
    return f"{count} {one if count == 1 else many or f'{one}s'}"


def size(count: float) -> str:
    """Bytes for people."""
    from humanize import naturalsize

    return naturalsize(count, format="%.3g")
