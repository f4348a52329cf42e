"""Quantities of lottery tickets for claims, by mask, density and trunk."""

from collections.abc import Callable, Sequence

import numpy as np
import xarray as xr

from specdyn.tasks.evidence.cases import TICKETS, Case
from specdyn.tasks.evidence.claim import NotRun

KEPT = 0.05
"""Share of the weights that the paper keeps."""


def tickets_of(case: Case, mask: str) -> xr.Dataset:
    """The finished tickets with a mask; NotRun if there are none."""
    rows = case.rows()
    found = rows.isel({TICKETS: (rows["mask"].values == mask) & (rows["status"].values == "done")})
    if not found.sizes[TICKETS]:
        raise NotRun(f"no finished ticket with the {mask} mask")
    return found


def lost_tickets(case: Case) -> tuple[str, ...]:
    """The missing tickets."""
    rows = case.rows()
    names = zip(rows[TICKETS].values, rows["trunk"].values, rows["mask"].values, rows["status"].values, strict=True)
    return tuple(f"{run} (seed {trunk}, {mask}): {status}" for run, trunk, mask, status in names if status != "done")


def densities(case: Case) -> list[float]:
    """All densities, ascending."""
    return sorted({float(density) for density in case.rows()["density"].values})


def paper_density(case: Case) -> float:
    """The density nearest to the paper's on a logarithmic scale."""
    return min(densities(case), key=lambda density: abs(np.log(density / KEPT)))


def trunks(*of: xr.Dataset) -> tuple[int, ...]:
    """The seeds common to all; NotRun if there are none."""
    seeds = sorted(set.intersection(*({int(seed) for seed in data["trunk"].values} for data in of)))
    if not seeds:
        raise NotRun("no seed has a finished ticket of all masks that are compared")
    return tuple(seeds)


def by_trunk(
    data: xr.Dataset, density: float, seeds: Sequence[int], of: Callable[[xr.Dataset], np.ndarray]
) -> np.ndarray:
    """A value of the tickets at a density, averaged by trunk: (seed, ...); NaN if there are none."""
    found = []
    for seed in seeds:
        chosen = data.isel({TICKETS: (data["trunk"].values == seed) & (data["density"].values == density)})
        each = [of(chosen.isel({TICKETS: i})) for i in range(chosen.sizes[TICKETS])]
        found.append(np.mean(each, axis=0) if each else None)
    shape = next((of_seed.shape for of_seed in found if of_seed is not None), ())
    return np.array([np.full(shape, np.nan) if of_seed is None else of_seed for of_seed in found])


def final_loss(ticket: xr.Dataset) -> np.ndarray:
    """Training loss at the last step."""
    return np.asarray(ticket["loss"].sel(split="train").dropna("step").isel(step=-1).values, dtype=float)


def mask_score(ticket: xr.Dataset) -> np.ndarray:
    """Agreement of the dense end with its masked version / chance, by layer."""
    return np.asarray(ticket["agreement_mask_score"].values / ticket["agreement_null"].values, dtype=float)


def dense_score(ticket: xr.Dataset) -> np.ndarray:
    """Agreement of the ticket with the dense run at the last step / chance, by layer."""
    score = ticket["agreement_dense_score"].dropna("step", how="all").isel(step=-1)
    return np.asarray(score.values / ticket["agreement_null"].values, dtype=float)


def early(layers: int) -> slice:
    """The first two thirds of the layers: the late wide ones are not tested."""
    return slice(0, max(1, round(layers * 2 / 3)))
