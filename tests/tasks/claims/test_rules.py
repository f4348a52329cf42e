"""Rules are fixed before runs are looked at: their hashes, and that of what they measure, belong to a version."""

import ast
import dataclasses
import importlib
import inspect
import json
from collections.abc import Iterable, Sequence
from hashlib import sha256
from pathlib import Path
from types import ModuleType

import pytest

from specdyn.models.plugins.kinds import inside
from specdyn.tasks.evidence.claim import CLAIMS, TIERS, Claim, Condition, Rule, chosen_claims, claim_names, get_claim
from specdyn.tasks.verdicts.deciding import said
from specdyn.tasks.verdicts.tables import markdown

HELD = Path(__file__).parents[2] / "fixtures" / "claim_rules.json"
"""Claim -> version -> digests of the rule and of the code that measures. Lines are added, never changed."""
ASKED = (
    *(f"g{i}" for i in range(1, 9)),
    *("r1", "r2", "r3", "p1", "p2", "a1", "a2", "v1"),
    *(f"w{i}" for i in range(1, 7)),
    *("l1", "l2", "l3", "t1", "t2", "t3", "t4"),
    *(f"c{i}" for i in range(1, 6)),
)
DECIDED = {
    "w1": {("rank", "falls", "<", 0.01), ("rank ratio", "every", "<=", 0.9)},
    "g1": {("final error with decay", "nearly every", "<", 0.05), ("rank ratio", "high ratio", "<=", 0.7)},
    "g2": {("lag", "low", ">=", -0.1), ("lag", "high", "<=", 0.1), ("rate ratio", "median", ">=", 2.0)},
    "r1": {("share of matrices", "every", ">=", 0.9)},
    "r2": {("share of matrices", "every", ">=", 0.8)},
    "p1": {("gap of the top half", "high", "<", 0.2)},
    "c1": {("barrier", "falls", "<", 0.01), ("first / last barrier", "every", ">", 10.0)},
    "c2": {("correlation", "every", "<=", -0.7), ("area under the curve", "every", ">=", 0.95)},
    "c4": {("steps between the onsets", "every", "<=", 1.0), ("barrier", "rises", "<", 0.01)},
    "l1": {("rank ratio", "high ratio", "<", 0.95), ("rank ratio", "every", "<", 1.0)},
}
"""Conditions of CLAIMS 2.8, which are taken as they are."""


def code_of(module: ModuleType) -> str:
    """Digest of what a module does, however it is laid out and documented."""
    tree = ast.parse(inspect.getsource(module))
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list):
            node.body = [one for one in body if not (isinstance(one, ast.Expr) and isinstance(one.value, ast.Constant))]  # type: ignore[attr-defined]
    return sha256(ast.unparse(tree).encode()).hexdigest()[:16]


def test_every_claim_is_there() -> None:
    assert set(ASKED) <= set(claim_names())


@pytest.mark.parametrize("claim", chosen_claims([]), ids=lambda claim: claim.name)
def test_a_rule_is_changed_only_with_its_version(claim: Claim) -> None:
    held = json.loads(HELD.read_text())
    known = held.get(claim.name, {}).get(str(claim.version))
    code = code_of(importlib.import_module(f"specdyn.tasks.claims.{claim.name}"))
    assert known == [claim.digest, code], (
        f"{claim.title} decides otherwise than its version {claim.version} did: raise the version, and add to "
        f'{HELD.name} "{claim.version}": ["{claim.digest}", "{code}"]'
    )
    assert max(map(int, held[claim.name])) == claim.version, "an older version came back"


def test_a_changed_threshold_has_another_digest() -> None:
    claim = get_claim("w1")
    (name, rule), *_ = claim.rules.items()
    other = dataclasses.replace(rule, passes=(Condition("rank", "falls", "<", 0.05), *rule.passes[1:]))
    assert dataclasses.replace(claim, rules={name: other}).digest != claim.digest
    assert dataclasses.replace(claim, statement="In other words.").digest == claim.digest


@pytest.mark.parametrize("name", DECIDED)
def test_decided_rules_are_taken_as_they_are(name: str) -> None:
    first = next(iter(get_claim(name).rules.values()))
    there = {(one.quantity, one.over, one.sign, one.than) for one in first.passes}
    assert DECIDED[name] <= there


@pytest.mark.parametrize("name", ["g2", "l1", "p1"])
def test_two_definitions_are_both_there(name: str) -> None:
    assert len(get_claim(name).rules) == 2


@pytest.mark.parametrize("claim", chosen_claims([]), ids=lambda claim: claim.name)
def test_a_claim_says_what_it_is_and_where_it_is_from(claim: Claim) -> None:
    assert claim.statement.endswith(".") and claim.source and claim.null
    assert set(claim.needs) <= set(TIERS)
    for rule in claim.rules.values():
        assert rule.passes and rule.statistic and rule.seeds >= 3
        for one in (*rule.passes, *rule.fails, *([rule.test] if rule.test else [])):
            assert one.quantity


RULE_HEADINGS = ("claim", "says", "for each seed", "passes where", "fails where", "beside", "seeds")


def rules_table(claims: Iterable[Claim]) -> str:
    """The rules of claims as Markdown, one row per definition."""
    rows = [_rule(claim, name, rule) for claim in claims for name, rule in claim.rules.items()]
    return markdown(RULE_HEADINGS, rows)


def _rule(claim: Claim, name: str, rule: Rule) -> tuple[str, ...]:
    title = f"{claim.title} v{claim.version}" + (f", {name}" if len(claim.rules) > 1 else "")
    return (
        title,
        f"{claim.statement} ({claim.source})",
        rule.statistic,
        _all(rule.passes, "and"),
        _all(rule.fails, "or"),
        claim.null,
        str(rule.seeds),
    )


def _all(conditions: Sequence[Condition], joined: str) -> str:
    return f" **{joined}** ".join(map(said, conditions))


def test_the_documents_have_every_rule() -> None:
    page = (Path(__file__).parents[3] / "docs" / "claims.md").read_text()
    written = page.partition("<!-- rules -->\n")[2].partition("\n<!-- end of rules -->")[0]
    assert written == rules_table(inside(CLAIMS).values()), "write rules_table(...) between the marks of docs/claims.md"
