"""Recognises a network's family from config.json or tensor names, and the role of each tensor."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from specdyn.models.families.base import EMBEDDING, POSITION, Family, Place, Rule, Stored, families, place_in

Shapes = Mapping[str, tuple[int, ...]]
Config = Mapping[str, Any]

HEADS = ("num_attention_heads", "n_head", "num_heads", "n_heads", "encoder_attention_heads")
GROUPS = ("num_key_value_heads", "n_kv_heads", "num_kv_heads", "n_query_groups")
"""Names in config.json of the number of heads, and of key-value heads for grouped attention."""
INNER = ("text_config", "llm_config", "language_config")
"""Keys of the language model's config in a config of several models."""
UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class Recognised:
    """The recognised family of a network, or none, with the reason."""

    family: Family | None
    because: str

    @property
    def name(self) -> str:
        """The family's name."""
        return self.family.name if self.family else UNKNOWN


@dataclass(frozen=True, slots=True, kw_only=True)
class Named:
    """A tensor with its matching rule and its position."""

    tensor: str
    rule: Rule
    place: Place


def recognise(shapes: Shapes, config: Config) -> Recognised:
    """The family by `model_type` (or `architectures`) in config.json, if the tensors agree, else by their names."""
    names, whole = templates(shapes), [family for family in families() if not family.fragment]
    there = [family for family in whole if _has(family, names) and _kept_as(family, shapes, config)]
    given = _types(config)
    for family in whole:
        said = [kind for kind in given if kind in family.model_types or _plain(kind) in map(_plain, family.model_types)]
        if said and family in there:
            return Recognised(family=family, because=f"config.json says {given[said[0]]}")
        if said and not there:
            missing = next((p for p in family.known_by if not _any(p, names)), family.known_by[0])
            because = f"config.json says {given[said[0]]}, but no tensor is called {missing.split('|')[0]}"
            return Recognised(family=None, because=because)
    if not there:
        said_so = f"config.json says {next(iter(given.values()))}, and " if given else ""
        return Recognised(family=None, because=f"{said_so}the names of the tensors are those of no family")
    best = max(there, key=lambda family: len(named(names.values(), family.rules)))
    example = next(name for name in names.values() if place_in(best.known_by[0], name) is not None)
    unknown = f"; {next(iter(given.values()))} in config.json is not known" if given else ""
    return Recognised(family=best, because=f"its tensors have names such as {example}{unknown}")


def fragments(shapes: Shapes) -> list[Family]:
    """The components, recognised in networks of any family, that are present."""
    names = templates(shapes)
    found = [family for family in families() if family.fragment and _has(family, names)]
    return sorted(found, key=lambda family: family.only_with_heads)


def named(tensors: Iterable[str], rules: Sequence[Rule]) -> dict[str, Named]:
    """The tensors that match rules; the first match counts."""
    found: dict[str, Named] = {}
    for tensor in tensors:
        for rule in rules:
            if (place := place_in(rule.pattern, tensor)) is not None:
                found[tensor] = Named(tensor=tensor, rule=rule, place=place)
                break
    return found


def setting(config: Config, names: Sequence[str]) -> int:
    """The integer in config.json under the first of these names that exists, or 0."""
    for of in (config, *(config[inner] for inner in INNER if isinstance(config.get(inner), Mapping))):
        for name in names:
            if isinstance(value := of.get(name), int) and not isinstance(value, bool) and value > 0:
                return value
    return 0


def width_of(shapes: Shapes, rules: Sequence[Rule], config: Config) -> int:
    """The width of the residual stream: from config.json, or from position or token embeddings; 0 if unknown."""
    if given := setting(config, ("hidden_size", "n_embd", "d_model", "dim")):
        return given
    for role in (POSITION, EMBEDDING):
        found = named(shapes, [rule for rule in rules if rule.role == role and rule.stored == "out_in"])
        if widths := [shapes[tensor][-1] for tensor in found if len(shapes[tensor]) >= 2]:
            return widths[0]
    return 0


def kept(shape: tuple[int, ...], width: int) -> Stored | None:
    """The order of the last two axes of a tensor that reads the residual stream; None if unknown."""
    first, last = shape[-2:]
    if first == last:
        return None
    if width in (first, last):
        return "in_out" if first == width else "out_in"
    return "in_out" if last == 3 * first else "out_in" if first == 3 * last else None


def templates(names: Iterable[str]) -> dict[str, str]:
    """One name per form, with all numbers from 3 on treated as equal, since a network may have thousands of names."""
    return {re.sub(r"(?<![^.])([3-9]|\d{2,})(?![^.])", "3", name): name for name in names}


def _has(family: Family, names: Mapping[str, str]) -> bool:
    return all(_any(pattern, names) for pattern in family.known_by)


def _any(pattern: str, names: Mapping[str, str]) -> bool:
    return any(place_in(pattern, name) is not None for name in names.values())


def _kept_as(family: Family, shapes: Shapes, config: Config) -> bool:
    """Whether the identifying tensors of a family have its order of axes."""
    width = width_of(shapes, family.rules, config) if family.stored else 0
    for pattern, stored in family.stored.items():
        ways = Counter(kept(shapes[tensor], width) for tensor in shapes if place_in(pattern, tensor))
        if ways and ways.most_common(1)[0][0] not in (stored, None):
            return False
    return True


def _types(config: Config) -> dict[str, str]:
    """Network type in config.json -> the entry that states it."""
    found: dict[str, str] = {}
    if isinstance(kind := config.get("model_type"), str):
        found[kind] = f"model_type {kind}"
    if isinstance(kind := config.get("_class_name"), str):
        found[kind] = f"_class_name {kind}"
    for name in config.get("architectures") or ():
        kind = re.sub(r"(For[A-Z]\w*|LMHeadModel|Model)$", "", str(name))
        found.setdefault(kind, f"architectures {name}")
    return found


def _plain(kind: str) -> str:
    return re.sub(r"[^a-z0-9]", "", kind.lower())
