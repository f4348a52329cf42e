"""Parses the step, epoch or number of tokens in a checkpoint's name."""

import itertools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

SAFE = (".safetensors",)
PICKLED = (".pth.tar", ".pt.tar", ".pt", ".pth", ".ckpt", ".bin")
Unit = Literal["steps", "epochs", "tokens", "checkpoints"]
"""What the numbers of a series count; `checkpoints` where only their order is known."""

WHOLE = r"(?P<step>\d+)(?![\da-z]|\.\d)"
"""Digits that form a whole number, unlike those of 10k, 7b and 0.25."""
TWO_NUMBERS = (
    r"(?i)ep(?:och)?[=_-]?(?P<epoch>\d+)[_-]it(?:er(?:ation)?)?[=_-]?(?P<iteration>\d+)",
    r"^checkpoint_(?P<epoch>\d+)_(?P<step>\d+)$",
)
"""An epoch and an iteration, or an epoch and a step."""
STEPS = (
    rf"(?i)step[=_-]?{WHOLE}",
    rf"(?i)(?<![a-z])(?:checkpoint|ckpt|iter|iteration|model|weights|snapshot)[=_-]?{WHOLE}",
    r"^(?P<step>\d+)$",
    r"(?<![\d.])(?P<step>0\d{2,}|\d{4,})$",
)
"""Patterns for a step in a name, tried in this order."""
TOKENS = (
    r"(?i)(?P<tokens>\d+(?:\.\d+)?)(?P<size>[kmbt]?)[_-]?tok(?:en)?s?",
    r"(?i)tokens?[=_-]?(?P<tokens>\d+)(?P<size>[kmbt]?)",
)
EPOCHS = (rf"(?i)(?:epoch|ep)[=_-]?{WHOLE.replace('step', 'epoch')}",)
"""Patterns for epochs, used if no name has a step."""
SIZES = {"": 1, "k": 10**3, "m": 10**6, "b": 10**9, "t": 10**12}
VERSION = re.compile(r"-v(\d+)$")
"""Lightning's suffix for a name that already exists."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Numbered:
    """The numbers in a name."""

    step: int | None = None
    epoch: int | None = None
    iteration: int | None = None
    """Iteration within its epoch, or overall."""
    tokens: int | None = None
    kind: str
    """The rest of the name, which distinguishes optimizers and running means from weights."""
    version: int = 0


def numbered(name: str, pattern: str | None = None) -> Numbered | None:
    """The numbers in a name, by the given pattern or the usual ones; None if there are none."""
    stem = name
    for suffix in (*SAFE, *PICKLED):
        stem = stem.removesuffix(suffix)
    version = VERSION.search(stem)
    stem = VERSION.sub("", stem) if version else stem
    for one in (pattern,) if pattern else (*TWO_NUMBERS, *STEPS, *TOKENS, *EPOCHS):
        if match := re.search(one, stem):
            groups = match.groupdict()
            if not groups.keys() & {"step", "epoch", "iteration", "tokens"}:
                groups = {"step": match.group(1)}
            return Numbered(
                **{key: _whole(groups[key], one, name) for key in ("step", "epoch", "iteration") if key in groups},
                tokens=_tokens(groups),
                kind=(stem[: match.start()] + stem[match.end() :]).strip("_-.="),
                version=int(version[1]) if version else 0,
            )
    return None


def checked(pattern: str) -> str:
    """The pattern; ValueError if it is not a regular expression or has no group."""
    try:
        groups = re.compile(pattern).groups
    except re.error as error:
        raise ValueError(f"pattern={pattern!r} is not a regular expression: {error}") from None
    if not groups:
        raise ValueError(f"pattern={pattern!r} has no group: expected one around the step, such as 'run-(\\d+)'")
    return pattern


def in_order(found: Mapping[str, Numbered], per_epoch: int = 0) -> tuple[dict[str, int], Unit, tuple[str, ...]]:
    """The position of each name on one axis, what the axis counts, and notes on it.

    Steps take precedence over tokens, and tokens over epochs; an axis never mixes two kinds: names without
    the chosen kind are left out. An epoch and an iteration become a step by `per_epoch`; without it the iteration
    is the step if it never falls from one epoch to the next, else names are numbered in order.
    """
    if per_epoch:
        found = {name: _by_epochs(one, per_epoch) for name, one in found.items()}
    if steps := {name: one.step for name, one in found.items() if one.step is not None}:
        return steps, "steps", ()
    pairs = {n: (o.epoch, o.iteration) for n, o in found.items() if o.epoch is not None and o.iteration is not None}
    if pairs:
        return _of_pairs(pairs)
    if iterations := {name: one.iteration for name, one in found.items() if one.iteration is not None}:
        return iterations, "steps", ()
    if tokens := {name: one.tokens for name, one in found.items() if one.tokens is not None}:
        return tokens, "tokens", ()
    return {name: one.epoch for name, one in found.items() if one.epoch is not None}, "epochs", ()


def _of_pairs(pairs: Mapping[str, tuple[int, int]]) -> tuple[dict[str, int], Unit, tuple[str, ...]]:
    distinct = sorted(set(pairs.values()))
    if len(distinct) > 1 and all(a[1] < b[1] for a, b in itertools.pairwise(distinct)):
        return {name: iteration for name, (_, iteration) in pairs.items()}, "steps", ()
    numbers = {pair: i for i, pair in enumerate(distinct)}
    told = "numbered in order of epoch, then iteration: pass --steps-per-epoch to get steps"
    return {name: numbers[pair] for name, pair in pairs.items()}, "checkpoints", (told,)


def _by_epochs(one: Numbered, per_epoch: int) -> Numbered:
    if one.step is not None or one.epoch is None:
        return one
    return replace(one, step=one.epoch * per_epoch + (one.iteration or 0))


def _whole(text: str | None, pattern: str, name: str) -> int:
    if text is None or not text.isdecimal():
        raise ValueError(f"pattern={pattern!r} finds {text!r} in {name!r}: expected digits")
    return int(text)


def _tokens(groups: Mapping[str, str | None]) -> int | None:
    text = groups.get("tokens")
    return None if text is None else round(float(text) * SIZES[(groups.get("size") or "").lower()])


def missing_kind(one: Numbered, unit: Unit) -> str:
    """Why a name with numbers is left out of a series in this unit."""
    has: Sequence[tuple[str, int | None]] = (("an epoch", one.epoch), ("a number of tokens", one.tokens))
    kinds = " and ".join(kind for kind, value in has if value is not None) or "a step"
    return f"{kinds} in its name, not {'a step' if unit == 'steps' else unit}"
