"""Families are found by their file names, and what they declare fits together."""

import re

import pytest

from specdyn.models.families.base import Place, Rule, family_names, get_family, place_in


@pytest.mark.parametrize("name", family_names())
def test_a_family_feeds_only_what_it_has(name: str) -> None:
    family = get_family(name)
    assert family.name == name and family.title
    slots = {slot for rule in family.rules for slot in (rule.name, *slots_of_parts(rule))}
    every = [
        *family.feeds,
        *(feed for feeds in (*family.feeds_if.values(), *family.feeds_unless.values()) for feed in feeds),
    ]
    named = {slot for feed in every for slot in "|".join((*feed.writers, *feed.readers)).split("|")}
    # What families share names what some of them lack, as a gate.
    assert named <= slots | {"gate", "router", "embedding"}, named - slots


@pytest.mark.parametrize("name", family_names())
def test_what_a_family_is_known_by_falls_under_its_rules(name: str) -> None:
    family = get_family(name)
    for pattern in family.known_by:
        examples = [re.sub(r"[#@]", "0", one) for one in pattern.split("|")]
        assert any(place_in(rule.pattern, example) for example in examples for rule in family.rules), pattern


def slots_of_parts(rule: Rule) -> list[str]:
    return [f"{rule.slot} {part}" if rule.slot else part for part in rule.parts]


@pytest.mark.parametrize(
    ("pattern", "tensor", "place"),
    [
        ("h.#.mlp.weight", "transformer.h.12.mlp.weight", Place("transformer.", (12,))),
        ("h.#.mlp.weight", "h.3.mlp.weight", Place("", (3,))),
        ("h.#.mlp.weight", "ph.3.mlp.weight", None),
        ("layer#.#.conv1.weight", "net.layer2.0.conv1.weight", Place("net.", (2, 0))),
        ("l.#.e.@.w1", "l.4.e.7.w1", Place("", (4,), (7,))),
        ("a.weight|b.*.weight", "x.b.any.weight", Place("x.")),
        ("b.*.weight", "b.two.parts.weight", None),
        ("a.weight", "a-weight", None),
    ],
)
def test_patterns_say_where_a_tensor_is(pattern: str, tensor: str, place: Place | None) -> None:
    assert place_in(pattern, tensor) == place
