"""Refusals that name the field, the value that came and what is allowed."""

import difflib
from collections.abc import Iterable


def require(condition: bool, field: str, value: object, allowed: str) -> None:
    """Raise ValueError naming field, value and what is allowed, unless the condition holds."""
    if not condition:
        raise ValueError(f"{field}={value!r} is not allowed: expected {allowed}")


def require_known(kind: str, name: object, known: Iterable[str]) -> None:
    """Raise ValueError listing the known names (and the nearest one) unless name is among them."""
    names = sorted(known)
    if name in names:
        return
    near = difflib.get_close_matches(str(name), names, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    raise ValueError(f"unknown {kind} {name!r}: known are {', '.join(names) or 'none'}{hint}")
