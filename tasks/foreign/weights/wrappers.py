"""Names of tensors without what wrappers add to them, and which of several sets of weights is meant."""

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from specdyn.models.families.base import families, place_in

INSIDE = re.compile(r"(^|(?<=\.))(_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module|_forward_module)\.")
"""What `torch.compile`, FSDP, activation checkpointing and Lightning add, at any depth."""
OUTSIDE = ("module.", "model.")
"""What data parallelism and Lightning put before every name."""
AVERAGED = re.compile(
    r"^(model_ema|ema_model|ema_network|module_ema|net_ema|ema|avg_model|averaged_model|swa_model|shadow)\."
)
"""How names of running means begin, where these stand among the weights that they are of."""
RAW = "raw"


@dataclass(frozen=True, slots=True, kw_only=True)
class NamedSet:
    """The tensors of one set of weights."""

    names: Mapping[str, str]
    """Name in the network -> name in the file."""
    told: tuple[str, ...] = ()
    """Which set was chosen, and which others there are."""


def chosen_set(
    names: Sequence[str], matrices: Collection[str], weights: str = "", chosen_before: bool = False
) -> NamedSet:
    """The tensors that are meant by `weights` (`raw`, `ema`, or the beginning of names), without wrappers.

    Those that are no running means, unless there are others alone. ValueError where there is no such set, unless it
    was chosen before, as one of several in a file.
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
    """The names of running means, dots being put back where a program left them out of all."""
    if any("." in name for name in means):
        return dict(means)
    dotted = {name.replace(".", ""): name for name in weights}
    inner = {name.partition(".")[2].replace(".", ""): name for name in weights}
    return {dotted.get(name, inner.get(name, name)): of for name, of in means.items()}


def unwrapped(names: Mapping[str, str], matrices: Collection[str]) -> dict[str, str]:
    """The names without wrappers; as they are where two would become one."""
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
    """Whether names begin as in a family without any wrapper."""
    patterns = [family.native for family in families() if family.native]
    places = (place_in(pattern, name) for name in names for pattern in patterns)
    return any(place is not None and not place.stack for place in places)
