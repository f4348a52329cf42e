"""Quantities of a run shared by several claims: ranks and their decrease, grokking step, scores with chance levels."""

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from specdyn.tasks.evidence.cases import Arm, Case, OneRun
from specdyn.tasks.evidence.claim import NotRun
from specdyn.tasks.evidence.statistics import crossing

BASELINE = {
    "image_classification": 1e-4,
    "image_generation": 0.0,
    "speech_recognition": 0.1,
    "language_modelling": 0.1,
    "modular_addition": 1.0,
}
"""Weight decay of the paper's single-run figures, by experiment."""
GENERALISES = 0.05
"""Validation error below which a run has generalised."""
SMALLEST_VALUE = 1e-5
"""Share of s_1 below which singular values are indistinguishable from 0 in float32."""


def baseline(case: Case) -> tuple[Arm, tuple[str, ...], float]:
    """Runs by seed with the paper's weight decay, or else the smallest; the missing runs; and that weight decay."""
    levels = case.levels("weight_decay")
    if not levels:
        return (*case.arm(), float("nan"))
    usual = BASELINE.get(case.experiment)
    chosen = float(usual if usual is not None and usual in levels else levels[0])
    arm, lost = case.arm(lambda settings: settings.get("weight_decay") == chosen)
    if not arm:
        raise NotRun(f"no run of weight decay {chosen:g} is finished")
    return arm, lost, chosen


def layers_of(run: OneRun) -> list[str]:
    """The layers that have an effective rank."""
    found = run.values("effective_rank").dropna("layer", how="all")
    return [str(layer) for layer in found["layer"].values]


def ranks(run: OneRun) -> tuple[list[float], np.ndarray]:
    """Steps, and effective rank / rank of every layer as (layer, step)."""
    found = run.values("effective_rank").dropna("layer", how="all").transpose("layer", "step")
    return [float(step) for step in found["step"].values], found.values.astype(np.float64)


def mean_rank(run: OneRun) -> tuple[list[float], np.ndarray]:
    """Steps, and the mean of effective rank / rank over layers."""
    steps, values = ranks(run)
    return steps, values.mean(axis=0)


def final_ranks(run: OneRun) -> np.ndarray:
    """Effective rank / rank of every layer at the end; NaN for collapsed layers, which would read about 1."""
    _, values = ranks(run)
    last = values[:, -1].copy()
    if run.has("collapse"):
        gone = run.values("collapse").isel(step=-1).sel(layer=layers_of(run)).values == 2
        last[gone] = np.nan
    return last


def error_name(run: OneRun) -> str:
    """The error metric of the experiment: the rate of wrong answers, or of character errors."""
    for name in ("err", "cer"):
        if run.has(name):
            return name
    raise NotRun("the experiment measures no error")


def curve(run: OneRun, name: str, split: str = "val") -> tuple[list[float], np.ndarray]:
    """Steps and values of a metric on a split."""
    found = run.values(name, split=split)
    return [float(step) for step in found["step"].values], found.values.astype(np.float64)


def last(run: OneRun, name: str, split: str = "val") -> float:
    """A metric at the end."""
    return float(curve(run, name, split)[1][-1])


def grokked_at(run: OneRun, below: float = GENERALISES) -> tuple[float, float]:
    """The two checkpoints between which the validation error falls below a level; NaN if it never does."""
    steps, error = curve(run, error_name(run))
    return crossing(steps, error, below)


def middle(between: tuple[float, float]) -> float:
    """The midpoint of an interval."""
    return (between[0] + between[1]) / 2


def growth_by_rank(run: OneRun) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """For every layer, the ranks i and log s_i(T) / s_i(0), where both differ from 0 in float32."""
    values = run.values("singular_value").dropna("layer", how="all")
    found = {}
    for layer in values["layer"].values:
        s_TR = values.sel(layer=layer).transpose("step", "rank").values.astype(np.float64)
        first, end = s_TR[0], s_TR[-1]
        with np.errstate(invalid="ignore"):
            there = (first > SMALLEST_VALUE * np.nanmax(first)) & (end > SMALLEST_VALUE * np.nanmax(end))
        found[str(layer)] = np.flatnonzero(there) + 1.0, np.log(end[there] / first[there])
    return found


def scores_beside_chance(run: OneRun) -> tuple[list[str], np.ndarray, np.ndarray]:
    """Pairs, their alignment scores (pair, step), and the chance level of each (pair,)."""
    scores = run.values("alignment_score").dropna("pair", how="all").transpose("pair", "step")
    pairs = scores["pair"].values
    null = run.values("alignment_null").sel(pair=pairs).values
    return [str(pair) for pair in pairs], scores.values.astype(np.float64), null.astype(np.float64)


def by_level(case: Case, setting: str, seeds: Sequence[int], of: Any) -> tuple[list[float], np.ndarray]:
    """A number per run as (seed, level) along a setting; NaN where a run is not finished.

    NotRun if no run has the setting, such as those trained by another program.
    """
    levels = case.levels(setting)
    if not levels:
        raise NotRun(f"no run says its {setting}")
    table = np.full((len(seeds), len(levels)), np.nan)
    for column, level in enumerate(levels):
        arm, _ = case.arm(lambda settings, level=level: settings.get(setting) == level)  # type: ignore[misc]
        for row, seed in enumerate(seeds):
            if seed in arm:
                table[row, column] = of(arm[seed])
    return [float(level) for level in levels], table


def before_collapse(case: Case, setting: str, seeds: Sequence[int]) -> list[int]:
    """Indices of the levels below the first at which a layer of some run has collapsed."""

    def collapsed(run: OneRun) -> float:
        return float(run.collapsed.any()) if run.has("collapse") else 0.0

    levels, flags = by_level(case, setting, seeds, collapsed)
    gone = np.flatnonzero((flags == 1).any(axis=0))
    return list(range(int(gone[0]) if len(gone) else len(levels)))


def seeds_of(case: Case) -> tuple[int, ...]:
    """The seeds with a finished run."""
    there, _ = case.arm()
    found = {run.seed for run in case.runs if run.status == "done"}
    if not there:
        raise NotRun("no run is finished")
    return tuple(sorted(found))


def lost_in(case: Case) -> tuple[str, ...]:
    """The missing runs of a case."""
    return case.arm()[1]


def run_ids(*arms: Arm) -> tuple[str, ...]:
    """The ids of the runs in some arms."""
    return tuple(dict.fromkeys(run.run_id for arm in arms for run in arm.values()))


def middle_of(values: ArrayLike, axis: int | None = None) -> np.ndarray:
    """The median without NaN; NaN if there are no values."""
    return _of_known(np.nanmedian, values, axis)


def mean_of(values: ArrayLike, axis: int | None = None) -> np.ndarray:
    """The mean without NaN; NaN if there are no values."""
    return _of_known(np.nanmean, values, axis)


def _of_known(of: Any, values: ArrayLike, axis: int | None) -> np.ndarray:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # for slices that are all NaN
        return np.asarray(of(values, axis=axis))
