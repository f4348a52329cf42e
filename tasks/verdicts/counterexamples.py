"""Counter-examples: networks that generalise at a higher rank than ones that memorise the same task (CLAIMS 2.9)."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import xarray as xr

from specdyn.models.spec.run_spec import RunSpec, as_text, places
from specdyn.models.wording import plural
from specdyn.tasks.evidence.cases import Case, OneRun, cases_of
from specdyn.tasks.evidence.claim import NotRun
from specdyn.tasks.evidence.measures import error_name, final_ranks, last

FACTS = ("run", "study", "seed", "rank", "train_error", "val_error")
"""Facts shown for each of the two runs."""
BELOW, GAP = 0.05, 0.5
"""Error below which a network has learned, and validation error above which it has only memorised."""
HEADINGS = (
    *("on", "generalises", "memorises", "rank", "other rank", "ratio", "layers", "val error", "other val error"),
    "differ in",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Learned:
    """A run that has learned its training set."""

    run: OneRun
    ranks: np.ndarray
    """Effective rank / rank of each layer at the end."""
    train: float
    val: float
    """Errors at the end."""

    @property
    def rank(self) -> float:
        """Mean over layers."""
        return float(self.ranks.mean())

    @property
    def facts(self) -> dict[str, str | int | float]:
        """The FACTS of the run."""
        of = (self.run.run_id, self.run.study, self.run.seed, self.rank, self.train, self.val)
        return dict(zip(FACTS, of, strict=True))


@dataclass(frozen=True, slots=True, kw_only=True)
class CounterExample:
    """Two runs on one task; the one that generalises has the higher rank."""

    task: str
    """Settings that distinguish the task from others in the studies."""
    generalises: Learned
    memorises: Learned

    @property
    def ratio(self) -> float:
        """Ratio of mean ranks."""
        return self.generalises.rank / self.memorises.rank

    @property
    def layers(self) -> float:
        """Share of the layers with a higher rank in the network that generalises."""
        return float((self.generalises.ranks > self.memorises.ranks).mean())

    @property
    def differ(self) -> str:
        """The settings in which the runs differ, with both values, that of the generalising network first."""
        one, other = (dict(of.run.settings) for of in (self.generalises, self.memorises))
        names = sorted(name for name in {*one, *other} if as_text(one.get(name)) != as_text(other.get(name)))
        return ", ".join(f"{name} {as_text(one.get(name))} | {as_text(other.get(name))}" for name in names)


@dataclass(frozen=True, slots=True, kw_only=True)
class Searched:
    """The result of a search."""

    examples: tuple[CounterExample, ...]
    """Counter-examples, largest ratio first."""
    pairs: int
    """Number of compared pairs."""

    @property
    def sentence(self) -> str:
        """Summary with both numbers."""
        return (
            f"In {len(self.examples)} of {plural(self.pairs, 'pair')} of runs on one task the network that generalises "
            "has the higher effective rank."
        )


def search(trees: Mapping[str, xr.DataTree], below: float = BELOW, gap: float = GAP) -> Searched:
    """All counter-examples among the runs in cubes, by the name of their study.

    A network has learned its training set if its training error is below `below`; it generalises if the validation
    error is below it too, and memorises if that exceeds `gap`. Runs are on one task if they agree in all settings of
    data and network, whatever their seeds and the rest. ValueError if there is no pair to compare.
    """
    free = tuple(name for name in places(RunSpec) if name not in ("experiment", "source", "net", "data"))
    found: list[CounterExample] = []
    pairs, runs, able, unable = 0, 0, 0, 0
    for case in cases_of(trees, free):
        learned = _learned(case, below)
        fit = [one for one in learned if one.val < below]
        unfit = [one for one in learned if one.val > gap]
        runs, able, unable = runs + len(case.runs), able + len(fit), unable + len(unfit)
        pairs += len(fit) * len(unfit)
        found += [
            CounterExample(task=case.label, generalises=one, memorises=other)
            for one in fit
            for other in unfit
            if one.rank > other.rank
        ]
    if not pairs:
        raise ValueError(
            f"no two runs on one task to compare: of {plural(runs, 'run')} {able} generalise (both errors below "
            f"{below:g}) and {unable} memorise (validation error above {gap:g}); other levels are below= and gap= of "
            "specdyn.counterexamples"
        )
    return Searched(examples=tuple(sorted(found, key=lambda one: -one.ratio)), pairs=pairs)


def _learned(case: Case, below: float) -> list[Learned]:
    """The finished runs with a training error below a level, without those with a collapsed layer."""
    found = []
    for run in case.runs:
        if run.status != "done":
            continue
        try:
            name = error_name(run)
            one = Learned(run=run, ranks=final_ranks(run), train=last(run, name, "train"), val=last(run, name))
        except NotRun:
            continue
        if one.train < below and np.isfinite(one.ranks).all():
            found.append(one)
    return found


def counterexample_rows(searched: Searched) -> list[tuple[str, ...]]:
    """Counter-examples under HEADINGS."""
    return [
        (
            one.task,
            *(of.run.run_id for of in (one.generalises, one.memorises)),
            *(f"{of.rank:.3g}" for of in (one.generalises, one.memorises)),
            f"{one.ratio:.3g}",
            f"{one.layers:.0%}",
            *(f"{of.val:.3g}" for of in (one.generalises, one.memorises)),
            one.differ,
        )
        for one in searched.examples
    ]
