"""Quantities of lines between branches' ends for claims: barriers and agreement by trunk and split point."""

from collections.abc import Sequence

import numpy as np
import xarray as xr

from specdyn.tasks.evidence.cases import LINES, Case
from specdyn.tasks.evidence.claim import NotRun

CONNECTED = 0.05
"""Share of an untrained network's loss below which a barrier counts as none."""


def lines_of(case: Case, kind: str, lost: bool = False) -> xr.Dataset:
    """The finished lines of a kind; NotRun if there are none."""
    rows = case.rows()
    found = rows.isel({LINES: (rows["kind"].values == kind) & ((rows["status"].values == "done") | lost)})
    if not found.sizes[LINES]:
        raise NotRun(f"no finished line of the kind {kind!r}")
    return found


def lost_lines(case: Case, *kinds: str) -> tuple[str, ...]:
    """The missing lines of these kinds."""
    rows = case.rows()
    names = zip(rows[LINES].values, rows["trunk_a"].values, rows["kind"].values, rows["status"].values, strict=True)
    return tuple(
        f"{pair} (seed {trunk}): {status}" for pair, trunk, kind, status in names if status != "done" and kind in kinds
    )


def barriers(lines: xr.Dataset) -> np.ndarray:
    """The barrier of the validation loss of each line."""
    return np.asarray(lines["barrier_loss"].sel(kept="all", split="val").values, dtype=float)


def scores(lines: xr.Dataset) -> np.ndarray:
    """Agreement of the ends (ten ranks), mean over layers, of each line."""
    return np.asarray(lines["agreement_score"].transpose(LINES, "layer").mean("layer").values, dtype=float)


def chance(lines: xr.Dataset) -> float:
    """The agreement of random matrices."""
    return float(lines["agreement_null"].mean().item())


def untrained_loss(case: Case) -> float:
    """The loss of an untrained network, estimated at the midpoints of lines between trunks at the first split.

    If trunks were not connected, the largest loss on lines within a trunk at the first split.
    """
    try:
        lines = lines_of(case, "across")
    except NotRun:
        lines = lines_of(case, "within")
    first = lines.isel({LINES: lines["split_step"].values == lines["split_step"].values.min()})
    losses = first["loss"].sel(kept="all", split="val")
    largest = losses.max("alpha").values
    middle = losses.isel(alpha=losses.sizes["alpha"] // 2).values
    return float(np.mean(middle if "across" in first["kind"].values else largest))


def seeds_of_lines(lines: xr.Dataset) -> tuple[int, ...]:
    """The seeds of the trunks."""
    return tuple(sorted({int(seed) for seed in lines["trunk_a"].values}))


def by_trunk_and(lines: xr.Dataset, along: str, values: np.ndarray) -> tuple[list[float], np.ndarray]:
    """The values of a coordinate, and means over lines by trunk and value, (trunk, value)."""
    seeds, levels = seeds_of_lines(lines), sorted({float(level) for level in lines[along].values})
    table = np.full((len(seeds), len(levels)), np.nan)
    for i, seed in enumerate(seeds):
        for j, level in enumerate(levels):
            chosen = (lines["trunk_a"].values == seed) & (lines[along].values == level)
            if chosen.any():
                table[i, j] = values[chosen].mean()
    return levels, table


def of_trunk(lines: xr.Dataset, seed: int, at: Sequence[str] = ("trunk_a",)) -> np.ndarray:
    """Which lines start or end at a trunk."""
    return np.any([lines[name].values == seed for name in at], axis=0)
