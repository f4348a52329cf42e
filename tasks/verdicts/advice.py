"""Advice on weight decay: where more of it starts to hurt, where norms collapse, and what is too much (CLAIMS 2.3)."""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import xarray as xr

from specdyn.models.wording import plural
from specdyn.tasks.evidence.cases import Case, cases_of
from specdyn.tasks.evidence.claim import NotRun
from specdyn.tasks.evidence.measures import by_level, final_ranks, last, mean_of, seeds_of
from specdyn.tasks.evidence.statistics import Interval, interval
from specdyn.tasks.verdicts.judging import Cubes

HEADINGS = ("weight decay", "validation loss", "rank", "collapsed layers", "seeds", "says")
WORSE = 0.05
"""Share of the least mean validation loss: a decay whose interval is above by more is too much or too little."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Level:
    """The effect of a weight decay."""

    weight_decay: float
    loss: Interval
    """Validation loss at the end: mean and 90 % interval over seeds."""
    rank: Interval
    """Mean effective rank / rank over layers that have not collapsed."""
    collapsed: float
    """Mean number of collapsed layers."""
    seeds: int
    says: str
    """`best`, `as good`, `too little`, `too much`, `collapse`, or empty if undecided."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Advice:
    """A grid of weight decays of one network."""

    case: str
    levels: tuple[Level, ...]
    knee: float | None
    """The weight decay with the largest fall of the log rank from the previous one; None if it never falls."""
    sentence: str


def advise(trees: Mapping[str, xr.DataTree]) -> list[Advice]:
    """Advice for every grid of two or more weight decays in these cubes of runs, by the name of their study."""
    found = []
    for case in cases_of(trees, ("weight_decay",)):
        if len(case.levels("weight_decay")) < 2:
            continue
        try:
            found.append(_advice(case))
        except NotRun:
            continue
    return found


def require_runs(cubes: Cubes) -> None:
    """ValueError names studies that are not sweeps, such as lines and tickets."""
    for name, tree in cubes.results.items():
        if not any("run" in node.dims for node in tree.children.values()):
            dims = sorted({str(dim) for node in tree.subtree for dim in node.dims})
            raise ValueError(
                f"{name} has no runs, only the dimensions {', '.join(dims)}: advice takes the cube of a sweep over "
                "weight decay, as specdyn.open returns it"
            )
    for noun, others in (("lines", cubes.connectivity), ("tickets", cubes.tickets)):
        if alone := [name for name in others if name not in cubes.results]:
            raise ValueError(f"{alone[0]} is a study of {noun}: advice takes sweeps over weight decay")


def _advice(case: Case) -> Advice:
    seeds = seeds_of(case)
    values, losses = by_level(case, "weight_decay", seeds, lambda run: last(run, "loss"))
    _, ranks = by_level(case, "weight_decay", seeds, lambda run: float(mean_of(final_ranks(run))))
    _, gone = by_level(case, "weight_decay", seeds, lambda run: float(run.collapsed.sum()))
    intervals = [interval(column) for column in losses.T]
    alive = [i for i, column in enumerate(gone.T) if not (column > 0).any() and np.isfinite(intervals[i].mean)]
    best = min(alive, key=lambda i: intervals[i].mean) if alive else -1
    levels = tuple(
        Level(
            weight_decay=value,
            loss=intervals[i],
            rank=interval(ranks[:, i]),
            collapsed=float(mean_of(gone[:, i])),
            seeds=int(np.isfinite(losses[:, i]).sum()),
            says=_says(i, best, intervals, bool((gone[:, i] > 0).any())),
        )
        for i, value in enumerate(values)
    )
    knee = _knee(levels, alive)
    return Advice(
        case=case.label, levels=levels, knee=knee, sentence=_sentence(case.label, levels, best, knee, len(seeds))
    )


def _says(i: int, best: int, losses: Sequence[Interval], collapsed: bool) -> str:
    if collapsed:
        return "collapse"
    if i == best:
        return "best"
    if best < 0 or not np.isfinite(losses[i].low):
        return ""
    if losses[i].low > losses[best].mean * (1 + WORSE):
        return "too much" if i > best else "too little"
    return "as good" if losses[i].high <= losses[best].mean * (1 + WORSE) else ""


def _knee(levels: Sequence[Level], alive: Sequence[int]) -> float | None:
    falls = [
        (float(np.log(levels[a].rank.mean / levels[b].rank.mean)), levels[b].weight_decay)
        for a, b in itertools.pairwise(alive)
    ]
    largest = max(falls, default=(0.0, 0.0))
    return largest[1] if largest[0] > 0 else None


def _sentence(case: str, levels: Sequence[Level], best: int, knee: float | None, seeds: int) -> str:
    if best < 0:
        return f"{case}: layers collapse at every weight decay of the grid."
    named = {
        says: ", ".join(f"{one.weight_decay:g}" for one in levels if one.says == says)
        for says in ("too much", "collapse")
    }
    parts = [f"{case}: least validation loss at weight decay {levels[best].weight_decay:g}"]
    parts += [f"the rank falls most at {knee:g}"] if knee is not None else ["no weight decay lowers the rank"]
    parts += [f"{named['too much']} is too much"] if named["too much"] else []
    parts += [f"layers collapse at {named['collapse']}"] if named["collapse"] else []
    open_ = [f"{one.weight_decay:g}" for one in levels if not one.says]
    parts += [f"{plural(seeds, 'seed')} cannot tell {', '.join(open_)} from it"] if open_ else []
    return "; ".join(parts) + "."


def advice_rows(advice: Advice) -> list[tuple[str, ...]]:
    """Rows for the weight decays of a grid, under HEADINGS."""
    return [
        (
            f"{one.weight_decay:g}",
            _with_ends(one.loss),
            _with_ends(one.rank),
            f"{one.collapsed:g}",
            str(one.seeds),
            one.says or "-",
        )
        for one in advice.levels
    ]


def _with_ends(of: Interval) -> str:
    if not np.isfinite(of.mean):
        return "-"
    return f"{of.mean:.3g}" + (f" [{of.low:.3g}, {of.high:.3g}]" if np.isfinite(of.low) else "")
