"""C4: with the size of a perturbation the barrier rises and the agreement of the ends falls, together (CLAIMS 2.6)."""

from collections.abc import Mapping

import numpy as np
import xarray as xr

from specdyn.tasks.evidence.cases import LINES, Case
from specdyn.tasks.evidence.claim import Claim, Condition, Measured, NotRun, Rule
from specdyn.tasks.evidence.lines import barriers, by_trunk_and, lines_of, lost_lines, scores, seeds_of_lines
from specdyn.tasks.evidence.statistics import SEED

SIZES = 5
"""Fewest levels for an onset."""
BEYOND = 2.0
"""An onset exceeds the lines without noise by this many standard deviations."""
DRAWS = 3


def measure(case: Case) -> Mapping[str, Measured]:
    """Barrier and agreement by the size of the noise, and the level of the grid at which each deviates from size 0."""
    lines = lines_of(case, "perturbed")
    lines = lines.isel({LINES: lines["direction"].values == "random"}) if lines.sizes[LINES] else lines
    sizes, heights = by_trunk_and(lines, "size", barriers(lines))
    _, agreement = by_trunk_and(lines, "size", scores(lines))
    if len(sizes) < SIZES or sizes[0] != 0:
        raise NotRun(f"sizes {sizes}: expected {SIZES} or more, 0 among them")
    instant = np.array([instant_loss(lines, size) for size in sizes])
    beyond = agreement - agreement[:, :1] + instant
    seeds = seeds_of_lines(lines)
    deviations = [_spread(lines, seed, values) for values in (barriers(lines), scores(lines)) for seed in seeds]
    of_barrier, of_score = np.array(deviations[: len(seeds)]), np.array(deviations[len(seeds) :])
    rises = _onset(heights - heights[:, :1], of_barrier)
    falls, raw = _onset(-beyond, of_score), _onset(agreement[:, :1] - agreement, of_score)
    measured = Measured(
        seeds=seeds,
        values={
            "barrier": heights,
            "agreement": agreement,
            "agreement beyond the instant loss": beyond,
            "steps between the onsets": np.abs(rises - falls),
            "without the instant loss taken off": np.abs(rises - raw),
        },
        runs=tuple(map(str, lines["run_a"].values)),
        layers=tuple(map(str, lines["layer"].values)),
        null=float(instant[-1]),
        lost=lost_lines(case, "perturbed"),
        notes=(
            f"sizes {', '.join(f'{size:g}' for size in sizes)}; the noise alone takes "
            f"{', '.join(f'{loss:.2f}' for loss in instant)} of the agreement at once",
            f"{int(np.isnan(rises).sum())} barriers and {int(np.isnan(falls).sum())} agreements have no onset",
        ),
    )
    return {"rule": measured}


def _spread(lines: xr.Dataset, seed: int, values: np.ndarray) -> float:
    own = (lines["trunk_a"].values == seed) & (lines["size"].values == 0)
    return float(values[own].std(ddof=1)) if own.sum() > 1 else float("nan")


def _onset(rise: np.ndarray, spread: np.ndarray) -> np.ndarray:
    """The first level of (seed, level) that exceeds the spread of level 0; NaN if none does."""
    above = rise > BEYOND * spread[:, None]
    return np.where(above.any(axis=1), above.argmax(axis=1), np.nan)


def instant_loss(lines: xr.Dataset, size: float) -> float:
    """The agreement that two copies of a network lose immediately through noise, before training; mean over layers.

    Computed on matrices with the singular values of the ends without noise, as the effect on their vectors depends only
    on these and on the shape.
    """
    plain = lines.isel({LINES: lines["size"].values == 0, "alpha": 0}).isel({LINES: 0})
    draw = np.random.default_rng(SEED)
    losses = []
    for layer in plain["layer"].values:
        own = plain.sel(layer=layer)
        s_R = own["singular_value"].values.astype(float)
        s_R = s_R[np.isfinite(s_R)]
        longer = round((2 / np.pi / float(own["agreement_null"])) ** 2 / len(s_R))
        losses.append(np.mean([1 - _agreement(s_R, longer, size, draw) for _ in range(DRAWS)]))
    return float(np.mean(losses))


def _agreement(s_R: np.ndarray, longer: int, size: float, draw: np.random.Generator) -> float:
    """Agreement (ten ranks) of two matrices diag(s) with independent noise, as (R, longer)."""
    if size == 0:
        return 1.0
    w = np.zeros((len(s_R), longer))
    np.fill_diagonal(w, s_R)
    factors = []
    for _ in range(2):
        noise = draw.standard_normal(w.shape)
        factors.append(np.linalg.svd(w + size * np.linalg.norm(w) / np.linalg.norm(noise) * noise, full_matrices=False))
    (u, _, v), (u2, _, v2) = factors
    return float(np.abs((u * u2).sum(axis=0) * (v * v2).sum(axis=1))[:10].mean())


CLAIM = Claim(
    name="c4",
    version=1,
    statement="The barrier rises and agreement falls with the size of a perturbation, from the same size on.",
    source="paper, figures 11 to 13",
    of="lines",
    null="the agreement that noise of that size takes at once, without training",
    rules={
        "rule": Rule(
            statistic="barrier and agreement (ten ranks, mean over layers) by relative size of the noise; onset: the "
            "first size beyond 2 standard deviations of the lines at size 0, that of agreement after its instant loss "
            "is taken off",
            passes=(
                Condition("barrier", "rises", "<", 0.01),
                Condition("agreement", "falls", "<", 0.01),
                Condition("steps between the onsets", "every", "<=", 1.0),
            ),
            fails=(Condition("steps between the onsets", "every", ">=", 2.0),),
            levels=5,
            effect=("steps between the onsets", "low"),
            test=Condition("barrier", "rises", "<", 0.01),
        )
    },
    measure=measure,
    needs={"S": ("lines-s",), "M": ("lines-m",), "L": ("lines-m",)},
)
