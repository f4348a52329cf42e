"""Claim: what one module in tasks/claims, or a plug-in, declares; its rule is data, so that a hash can hold it."""

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
"""How the values of seeds become one: of them `every`, all but one of five or more, more than half, or `any` must meet
the threshold; their median or mean; an end of the 90 % interval of the mean, of the geometric mean of ratios, of rank
correlations; Page's p for values that fall or rise along the levels; one `value` of all seeds together."""
Sign = Literal["<", "<=", ">", ">="]
Tier = Literal["S", "M", "L"]
TIERS: tuple[Tier, ...] = ("S", "M", "L")


class NotRun(Exception):
    """A study lacks what a claim is measured on: says what is missing."""


@dataclass(frozen=True, slots=True)
class Condition:
    """One comparison of a quantity with a threshold."""

    quantity: str
    over: Over
    sign: Sign
    than: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """When a claim passes, and when it fails; in between it is inconclusive."""

    statistic: str
    """What is computed for each seed, in words."""
    passes: tuple[Condition, ...]
    """All of them must hold."""
    fails: tuple[Condition, ...]
    """One of them suffices."""
    seeds: int = 3
    """The least number of seeds for a verdict."""
    levels: int = 0
    """The least number of levels of an ordered axis."""
    effect: tuple[str, Over]
    """The quantity that is reported as the effect, with the interval of `low` (mean), `low ratio` or `low rho`."""
    test: Condition | None = None
    """The p-value that goes into Holm's correction over the claims; None where a rule tests nothing."""
    lost: Literal["undecided", "counted"] = "undecided"
    """Whether a run that is missing, damaged or diverged keeps the claim from passing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """The quantities of a claim by seed, and what they rest on."""

    seeds: tuple[int, ...]
    values: Mapping[str, np.ndarray]
    """(seed,) or (seed, level); of a quantity of all seeds together (1,). NaN where it does not exist."""
    runs: tuple[str, ...] = ()
    layers: tuple[str, ...] = ()
    """Layers or pairs of layers."""
    null: float = float("nan")
    """The level of the effect by chance."""
    exceptions: tuple[str, ...] = ()
    """What does not follow the rest, by name."""
    lost: tuple[str, ...] = ()
    """Runs that should be there and are not, with why."""
    notes: tuple[str, ...] = ()
    """What else is to be known, such as how many events are censored."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """A statement about a study, and how it is decided."""

    name: str
    version: int
    """To be raised with every change of a rule or of what it measures."""
    statement: str
    """In a sentence."""
    source: str
    """Section of the paper, or arXiv id."""
    of: Literal["runs", "lines", "tickets"] = "runs"
    """The cube that it is measured on."""
    experiments: tuple[str, ...] = ()
    """Which it is about; empty for all."""
    varies: tuple[str, ...] = ()
    """Settings besides the seed in which the runs that it compares differ; all others agree in them."""
    null: str
    """What chance, or no effect, gives."""
    rules: Mapping[str, Rule]
    """By definition; several where there are several definitions. The first decides, and `contested` is what passes
    by one and fails by another."""
    measure: "Callable[[Case], Mapping[str, Measured]]"
    """Quantities for each of the rules, from a case alone; NotRun where something is missing."""
    needs: Mapping[Tier, tuple[str, ...]] = field(default_factory=dict)
    """Names of the declared studies that it is measured on, by tier."""
    code: str = ""
    """Digest of the source of a plug-in; empty for claims of the package, whose code a test holds to its version."""

    @property
    def digest(self) -> str:
        """First 16 hexadecimal digits of the hash of its version and all that decides; of a plug-in its source too."""
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
        """Its id as people write it."""
        return self.name.upper()


def of_plugin(declared: object, name: str, source: str) -> Claim:
    """What a plug-in declares; ValueError where a rule is not whole."""
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
    """The claim of that name, in either case; ValueError lists the known ones."""
    return kinds.get(CLAIMS, name.lower())


def chosen_claims(names: Sequence[str]) -> list[Claim]:
    """The claims of these names, or all that can be used."""
    return [get_claim(name) for name in names] if names else list(kinds.usable(CLAIMS).values())
