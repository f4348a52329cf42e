"""Checks that raise ValueError with the field, its value and what is allowed."""

import dataclasses
import difflib
import math
import numbers
from collections.abc import Callable, Iterable, Sequence
from typing import Any


def require(condition: bool, field: str, value: object, allowed: str) -> None:
    """Raise ValueError naming field, value and what is allowed, unless the condition holds."""
    if not condition:
        raise ValueError(f"{field}={value!r} is not allowed: expected {allowed}")


def items_of(field: str, text: str) -> list[str]:
    """The items of a comma-separated list; ValueError if one is empty."""
    items = [item.strip() for item in text.split(",")]
    require(all(items), field, text, "one or more values separated by commas, none of them empty")
    return items


def require_distinct(field: str, values: Sequence[Any]) -> None:
    """Raise ValueError unless there is at least one value and all are distinct."""
    require(len(values) > 0, field, list(values), "at least one value")
    flat = [tuple(value) if isinstance(value, list) else value for value in values]
    twice = [value for i, value in enumerate(flat) if value in flat[:i]]
    require(not twice, field, list(values), f"each value once, not {twice[:1]} again")


def require_seed(field: str, value: object) -> None:
    """Raise ValueError unless the value is a seed valid for every generator and a signed 64-bit coordinate."""
    whole = isinstance(value, int) and not isinstance(value, bool)
    require(whole and 0 <= value < 2**63, field, value, "an integer from 0 to 2**63 - 1")  # type: ignore[operator]


LISTED, NEAREST = 60, 3
"""The most known names that an error lists, and how many it lists of more."""


def require_known(kind: str, name: object, known: Iterable[str]) -> None:
    """Raise ValueError listing the known names (and the nearest one) unless name is among them.

    Of very many names it lists the nearest alone, where there are any.
    """
    names = sorted(known)
    if name in names:
        return
    near = difflib.get_close_matches(str(name), names, n=NEAREST)
    if near and len(names) > LISTED:
        raise ValueError(
            f"unknown {kind} {name!r}: did you mean {' or '.join(map(repr, near))}? {len(names)} are known"
        )
    hint = f"; did you mean {near[0]!r}?" if near else ""
    raise ValueError(f"unknown {kind} {name!r}: known are {', '.join(names) or 'none'}{hint}")


def name_of(field: "dataclasses.Field[Any]") -> str:
    """The public name of a setting: the field's name, unless the field declares another."""
    return field.metadata.get("name", field.name)


def require_each(instance: Any, names: Sequence[str], holds: Callable[[Any], bool], allowed: str) -> None:
    """Raise ValueError for the first of some fields of a dataclass whose value is not allowed."""
    for field in dataclasses.fields(instance):
        value = getattr(instance, field.name)
        require(field.name not in names or holds(value), name_of(field), value, allowed)


def require_counts(instance: Any, *names: str) -> None:
    """Raise ValueError unless those fields hold 1 or more."""
    require_each(instance, names, lambda count: count >= 1, "an integer of 1 or more")


def require_amounts(instance: Any, *names: str) -> None:
    """Raise ValueError unless those fields hold finite numbers that are not negative."""
    require_each(instance, names, lambda amount: 0 <= amount < math.inf, "a finite number of 0 or more")


def require_declared_types(instance: Any) -> None:
    """Convert the numbers of a frozen dataclass to the declared types of its fields; ValueError if one does not fit.

    1 in a float field becomes 1.0 and numpy numbers become Python numbers, so that equal settings have equal JSON.
    """
    for field in dataclasses.fields(instance):
        name, value = name_of(field), getattr(instance, field.name)
        if field.type is bool:
            require(isinstance(value, bool), name, value, "True or False")
        elif field.type is float:
            require(_is_number(value), name, value, "a number")
            object.__setattr__(instance, field.name, float(value))
        elif field.type is int or (field.type == int | None and value is not None):
            require(_is_number(value) and value % 1 == 0, name, value, "an integer")
            object.__setattr__(instance, field.name, int(value))
        elif isinstance(field.type, type) and dataclasses.is_dataclass(field.type):
            require(isinstance(value, field.type), name, value, f"an instance of {field.type.__name__}")


def _is_number(value: object) -> bool:
    """Whether the value is a real number; True and False are not."""
    return isinstance(value, numbers.Real) and not isinstance(value, bool)
