"""Claim: the declaration in a module of tasks/claims or a plug-in; its rule is data, so that it can be hashed."""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Literal

import numpy as np

from specdyn.models.plugins import kinds
from specdyn.models.spec.checks import require, require_known

if TYPE_CHECKING:
    from specdyn.tasks.evidence.cases import Case

Over = Literal[
    "every", "nearly every", "most", "any", "median", "mean", "low", "high", "low ratio", "high ratio", "low rho",
    "high rho", "falls", "rises", "value",
]  # fmt: skip
"""How the values of seeds are combined: `every` one, all but one of five or more, more than half, or `any` must meet
the threshold; or their median or mean does; or an end of the 90 % interval of the mean, of the geometric mean of
ratios, or of rank correlations; Page's p for values that fall or rise along the levels; or a `value` for all seeds."""
Sign = Literal["<", "<=", ">", ">="]
Tier = Literal["S", "M", "L"]
TIERS: tuple[Tier, ...] = ("S", "M", "L")


class NotRun(Exception):
    """A study lacks what a claim needs; the message says what is missing."""


@dataclass(frozen=True, slots=True)
class Condition:
    """One comparison of a quantity with a threshold."""

    quantity: str
    over: Over
    sign: Sign
    than: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """When a claim passes and when it fails; otherwise it is inconclusive."""

    statistic: str
    """Description of what is computed for each seed."""
    passes: tuple[Condition, ...]
    """Conditions that must all hold."""
    fails: tuple[Condition, ...]
    """Conditions of which one suffices."""
    seeds: int = 3
    """The least number of seeds for a verdict."""
    levels: int = 0
    """The least number of levels of an ordered axis."""
    effect: tuple[str, Over]
    """The quantity reported as the effect, with the interval of `low` (mean), `low ratio` or `low rho`."""
    test: Condition | None = None
    """The p-value for Holm's correction over the claims; None if the rule has no test."""
    lost: Literal["undecided", "counted"] = "undecided"
    """Whether a missing, damaged or diverged run prevents a pass."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """The quantities of a claim by seed, and what they are based on."""

    seeds: tuple[int, ...]
    values: Mapping[str, np.ndarray]
    """(seed,) or (seed, level); (1,) for a quantity of all seeds together. NaN where it does not exist."""
    runs: tuple[str, ...] = ()
    layers: tuple[str, ...] = ()
    """Layers or pairs of layers."""
    null: float = float("nan")
    """The chance level of the effect."""
    exceptions: tuple[str, ...] = ()
    """Exceptions, by name."""
    lost: tuple[str, ...] = ()
    """Missing runs, with the reason."""
    notes: tuple[str, ...] = ()
    """Further notes, such as how many events are censored."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """A statement about a study, and the rules that decide it."""

    name: str
    version: int
    """Increase with every change of a rule or of what it measures."""
    statement: str
    """The statement in one sentence."""
    source: str
    """Section of the paper, or arXiv id."""
    of: Literal["runs", "lines", "tickets"] = "runs"
    """The kind of cube on which it is measured."""
    experiments: tuple[str, ...] = ()
    """Experiments that it is about; empty for all."""
    varies: tuple[str, ...] = ()
    """Settings besides the seed in which the compared runs may differ."""
    null: str
    """Description of the null hypothesis."""
    rules: Mapping[str, Rule]
    """Rules by definition of the claim. The first decides; a claim that passes by one and fails by another is
    `contested`."""
    measure: "Callable[[Case], Mapping[str, Measured]]"
    """Computes the quantities for each rule from a case; NotRun if something is missing."""
    needs: Mapping[Tier, tuple[str, ...]] = field(default_factory=dict)
    """Names of the declared studies on which it is measured, by tier."""
    code: str = ""
    """Digest of the source of a plug-in; empty for claims of the package, whose code a test ties to the version."""

    @property
    def digest(self) -> str:
        """First 16 hexadecimal digits of the hash of its version and rules; for a plug-in also of its source."""
        decides = {
            "name": self.name,
            "version": self.version,
            "of": self.of,
            "experiments": self.experiments,
            "varies": self.varies,
            "null": self.null,
            "rules": {name: asdict(rule) for name, rule in self.rules.items()},
            **({"code": self.code} if self.code else {}),
        }
        return hashlib.sha256(json.dumps(decides, sort_keys=True).encode()).hexdigest()[:16]

    @property
    def title(self) -> str:
        """Its id in display form."""
        return self.name.upper()


def of_plugin(declared: object, name: str, source: str) -> Claim:
    """The claim of a plug-in; ValueError if a rule is incomplete."""
    found = kinds.named(declared, name, Claim)
    require(bool(found.rules), "rules", dict(found.rules), "one at least")
    for rule in found.rules.values():
        require(bool(rule.passes), "passes", rule.passes, "one condition at least")
    for tier in found.needs:
        require_known("tier", tier, TIERS)
    return replace(found, code=source)


CLAIMS = kinds.Kind(group="claims", noun="claim", package="specdyn.tasks.claims", checked=of_plugin)


def claim_names() -> list[str]:
    """Names of all claims, without importing them."""
    return kinds.names(CLAIMS)


def get_claim(name: str) -> Claim:
    """The claim of that name, case-insensitive; ValueError lists the known ones."""
    return kinds.get(CLAIMS, name.lower())


def chosen_claims(names: Sequence[str]) -> list[Claim]:
    """The claims of these names, or all usable ones."""
    return [get_claim(name) for name in names] if names else list(kinds.usable(CLAIMS).values())
