"""Judges claims on the cubes of studies."""

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import xarray as xr

from specdyn.models.wording import plural
from specdyn.tasks.evidence.cases import Case, case_of_table, cases_of
from specdyn.tasks.evidence.claim import Claim, NotRun
from specdyn.tasks.evidence.statistics import holm
from specdyn.tasks.verdicts.deciding import Decision, State, decide

CUBES = {"runs": "results", "lines": "connectivity", "tickets": "tickets"}
"""The cube of a study on which a claim is measured."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """The result of a claim's rules on one case."""

    claim: str
    version: int
    rule: str
    """Digest of the rules."""
    state: State
    sentence: str
    case: str
    """Display name of the case."""
    studies: tuple[str, ...]
    statement: str
    definitions: Mapping[str, str] = field(default_factory=dict)
    """The state by each definition of the claim."""
    effect: str = ""
    """The quantity to which the numbers refer."""
    value: float | None = None
    low: float | None = None
    high: float | None = None
    """Ends of the 90 % interval over seeds."""
    null: float | None = None
    p: float | None = None
    p_holm: float | None = None
    """p-value corrected over the verdicts made together."""
    n: int = 0
    seeds: tuple[int, ...] = ()
    runs: tuple[str, ...] = ()
    layers: tuple[str, ...] = ()
    exceptions: tuple[str, ...] = ()
    lost: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    needed: int = 0
    """About how many seeds like these would decide; 0 if unknown or already decided."""
    contents: str = ""
    """Digest of the cubes on which it is based."""
    made: str = ""
    """When it was first stored, in UTC."""

    @property
    def title(self) -> str:
        """The claim's id in display form."""
        return self.claim.upper()

    @property
    def key(self) -> str:
        """Its storage key: claim, version, and a digest of the rules, the cubes and the case."""
        of = json.dumps([self.rule, self.contents, self.case, self.studies]).encode()
        return f"{self.claim}-v{self.version}-{hashlib.sha256(of).hexdigest()[:12]}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Cubes:
    """The cubes of studies by name."""

    results: Mapping[str, xr.DataTree]
    connectivity: Mapping[str, xr.DataTree]
    tickets: Mapping[str, xr.DataTree]

    def of(self, kind: str) -> Mapping[str, xr.DataTree]:
        """The studies of a kind."""
        found: Mapping[str, xr.DataTree] = getattr(self, CUBES[kind])
        return found

    def contents(self, kind: str, studies: Sequence[str]) -> str:
        """Digest of the `contents` attributes of the studies' cubes."""
        trees = self.of(kind)
        return ",".join(str(trees[name].attrs.get("contents", "")) for name in studies if name in trees)


def judge(claims: Sequence[Claim], cubes: Cubes) -> list[Verdict]:
    """A verdict for each claim and each of its cases, with Holm's correction over all of them; writes nothing.

    If a claim can be judged on some cases, the others are left out.
    """
    verdicts = [verdict for claim in claims for verdict in _of_claim(claim, cubes)]
    p_values = {f"{i}": one.p if one.p is not None else math.nan for i, one in enumerate(verdicts)}
    corrected = holm(p_values)
    return [replace(one, p_holm=_number(corrected[f"{i}"])) for i, one in enumerate(verdicts)]


def _of_claim(claim: Claim, cubes: Cubes) -> list[Verdict]:
    cases = _cases(claim, cubes)
    if not cases:
        which = f" of {' or '.join(claim.experiments)}" if claim.experiments else ""
        kind = {"runs": "runs", "lines": "lines (`specdyn connect`)", "tickets": "tickets (`specdyn tickets`)"}[
            claim.of
        ]
        return [_not_run(claim, None, f"no study of {kind}{which} among these", cubes)]
    found = [judge_case(claim, case, cubes) for case in cases]
    ran = [one for one in found if one.state != "not run"]
    return ran or found[:1]


def _cases(claim: Claim, cubes: Cubes) -> list[Case]:
    trees = cubes.of(claim.of)
    if claim.of == "runs":
        return cases_of(trees, claim.varies, claim.experiments)
    tables = [
        case_of_table(name, tree.to_dataset(), str(tree.attrs.get("experiment", ""))) for name, tree in trees.items()
    ]
    return [case for case in tables if not claim.experiments or case.experiment in claim.experiments]


def judge_case(claim: Claim, case: Case, cubes: Cubes | None = None) -> Verdict:
    """The verdict of a claim on one case; `not run`, saying what is missing, if it cannot be measured."""
    try:
        measured = claim.measure(case)
    except NotRun as missing:
        return _not_run(claim, case, str(missing), cubes)
    except KeyError as missing:
        return _not_run(claim, case, f"{str(missing).splitlines()[0]} is not among the results", cubes)
    decisions = {name: decide(rule, measured[name]) for name, rule in claim.rules.items() if name in measured}
    first = next(iter(decisions))
    states: dict[str, str] = {name: decisions[name].state if name in decisions else "not run" for name in claim.rules}
    state = decisions[first].state
    if "pass" in states.values() and "fail" in states.values():
        state = "contested"
    elif first != next(iter(claim.rules)):
        state = "inconclusive" if state == "pass" else state  # the definition that decides was not measured
    main, of = decisions[first], measured[first]
    verdict = Verdict(
        claim=claim.name,
        version=claim.version,
        rule=claim.digest,
        state=state,
        sentence="",
        case=case.label,
        studies=case.studies,
        statement=claim.statement,
        definitions=states,
        effect=claim.rules[first].effect[0],
        value=_number(main.effect.mean),
        low=_number(main.effect.low),
        high=_number(main.effect.high),
        null=_number(of.null),
        p=_number(main.p),
        n=len(of.seeds),
        seeds=of.seeds,
        runs=of.runs,
        layers=of.layers,
        exceptions=of.exceptions,
        lost=of.lost,
        notes=of.notes,
        needed=main.needed,
        contents=cubes.contents(claim.of, case.studies) if cubes else "",
    )
    return replace(verdict, sentence=_sentence(verdict, main))


def _not_run(claim: Claim, case: Case | None, missing: str, cubes: Cubes | None) -> Verdict:
    return Verdict(
        claim=claim.name,
        version=claim.version,
        rule=claim.digest,
        state="not run",
        sentence=f"{claim.title} was not run{f' on {case.label}' if case else ''}: {missing}.",
        case=case.label if case else "",
        studies=case.studies if case else (),
        statement=claim.statement,
        definitions=dict.fromkeys(claim.rules, "not run"),
        contents=cubes.contents(claim.of, case.studies) if case and cubes else "",
    )


VERBS = {"pass": "passes", "fail": "fails", "inconclusive": "is inconclusive", "contested": "is contested"}


def _sentence(verdict: Verdict, main: Decision) -> str:
    value = "not known" if math.isnan(main.effect.mean) else f"{main.effect.mean:.3g}"
    number = f"{verdict.effect} {value}"
    if math.isfinite(main.effect.low):
        number += f" [{main.effect.low:.3g}, {main.effect.high:.3g}]"
    if verdict.null is not None:
        number += f", {verdict.null:.3g} by chance"
    parts = [f"{verdict.title} {VERBS[verdict.state]} on {verdict.case}: {number}, {plural(verdict.n, 'seed')}"]
    if len(verdict.definitions) > 1:
        definitions = ", ".join(f"{name}: {state}" for name, state in verdict.definitions.items())
        parts.append(f"by definition: {definitions}")
    if verdict.state != "pass":
        parts.append(main.why)
    if main.needed:
        parts.append(f"about {main.needed} seeds like these would decide")
    return "; ".join(parts) + "."


def _number(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else float(value)


def plain(verdict: Verdict) -> dict[str, Any]:
    """A verdict as JSON values."""
    return asdict(verdict)
