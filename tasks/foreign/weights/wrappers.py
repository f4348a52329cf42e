"""Removes wrappers' prefixes from tensor names, and chooses among several sets of weights."""

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from specdyn.models.families.base import families, place_in

INSIDE = re.compile(r"(^|(?<=\.))(_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module|_forward_module)\.")
"""Parts of names added by `torch.compile`, FSDP, activation checkpointing and Lightning, at any depth."""
OUTSIDE = ("module.", "model.")
"""Prefixes added to every name by data parallelism and Lightning."""
AVERAGED = re.compile(
    r"^(model_ema|ema_model|ema_network|module_ema|net_ema|ema|avg_model|averaged_model|swa_model|shadow)\."
)
"""Prefixes of running means that are stored among the weights."""
RAW = "raw"


@dataclass(frozen=True, slots=True, kw_only=True)
class NamedSet:
    """The tensors of one set of weights."""

    names: Mapping[str, str]
    """Name in the network -> name in the file."""
    told: tuple[str, ...] = ()
    """Notes on the chosen set, and the others."""


def chosen_set(
    names: Sequence[str], matrices: Collection[str], weights: str = "", chosen_before: bool = False
) -> NamedSet:
    """The tensors selected by `weights` (`raw`, `ema`, or the start of names), without wrappers.

    By default, those that are not running means, if there are any. ValueError if there is no such set, unless it was
    already chosen as one of several in a file.
    """
    sets: dict[str, dict[str, str]] = {}
    for name in names:
        match = AVERAGED.match(name)
        before = match[0] if match else ""
        sets.setdefault(before, {})[name.removeprefix(before)] = name
    usable = {before: of for before, of in sets.items() if any(name in matrices for name in of.values())}
    means = [before for before in usable if before]
    wanted = {"": [""] if "" in usable else means, RAW: [""], "ema": means}.get(weights, [weights.rstrip(".") + "."])
    if not any(before in usable for before in wanted):
        if weights and not chosen_before:
            there = ", ".join(before.rstrip(".") or RAW for before in usable) or "none"
            raise ValueError(f"weights={weights!r}: no such set of weights; there are: {there}")
        wanted = list(usable) or [""]
    before = next((one for one in wanted if one in usable), "")
    chosen = dict(sets.get(before, {}))
    others = [f"{one.rstrip('.') or RAW} ({len(of)} tensors)" for one, of in usable.items() if one != before]
    told = (f"weights: {before.rstrip('.') or RAW}; also there, by --weights: {', '.join(others)}",) if others else ()
    if before and "" in usable:
        chosen = _with_dots(chosen, sets[""])
    return NamedSet(names=unwrapped(chosen, matrices), told=told)


def _with_dots(means: Mapping[str, str], weights: Collection[str]) -> dict[str, str]:
    """The names of running means, with dots restored if a program removed them from all."""
    if any("." in name for name in means):
        return dict(means)
    dotted = {name.replace(".", ""): name for name in weights}
    inner = {name.partition(".")[2].replace(".", ""): name for name in weights}
    return {dotted.get(name, inner.get(name, name)): of for name, of in means.items()}


def unwrapped(names: Mapping[str, str], matrices: Collection[str]) -> dict[str, str]:
    """The names without wrappers; unchanged if two would collide."""
    short = {INSIDE.sub("", name): of for name, of in names.items()}
    if len(short) < len(names):
        return dict(names)
    for before in OUTSIDE:
        layers = [name for name, of in short.items() if of in matrices]
        while layers and all(name.startswith(before) for name in layers) and not _native(layers):
            inner = {name.removeprefix(before): of for name, of in short.items()}
            if len(inner) < len(short):
                break
            short, layers = inner, [name.removeprefix(before) for name in layers]
    return short


def _native(names: Sequence[str]) -> bool:
    """Whether names match a family without removing any wrapper."""
    patterns = [family.native for family in families() if family.native]
    places = (place_in(pattern, name) for name in names for pattern in patterns)
    return any(place is not None and not place.stack for place in places)
