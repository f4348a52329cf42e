"""One run as trackers take it: its settings, its numbers by step, and its figures, read from a cube."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from specdyn.storage.schema import METRICS_GROUP, RUNS_GROUP, SPLITS
from specdyn.tasks.figures.summary import RUN_FACTS

if TYPE_CHECKING:
    import xarray as xr

OF_LAYERS = ("effective_rank", "stable_rank", "spectral_norm", "frobenius_norm")
"""Variables of which the mean over the layers that have a value is sent."""
OF_NETWORK = ("log_norm_product",)
NO_SETTINGS = ("results", "parts", "contents", "trained")


@dataclass(frozen=True, slots=True, kw_only=True)
class Tracked:
    """A run that is measured."""

    run_id: str
    study: str
    settings: Mapping[str, Any]
    scalars: Mapping[str, Mapping[int, float]]
    """By name and step, finite numbers alone: `val/loss`, `layers/effective_rank`, ..."""
    facts: Mapping[str, float]
    """Of the whole run."""
    figures: Mapping[str, bytes]
    """PNGs by name."""


def finished_runs(tree: "xr.DataTree") -> dict[str, str]:
    """The runs of a cube that are done, with the digest of what their values were taken from."""
    runs = tree[RUNS_GROUP].to_dataset()
    every = zip(*(runs[name].values.tolist() for name in ("run", "status", "contents")), strict=True)
    return {str(run): str(contents) for run, status, contents in every if status == "done"}


def tracked(tree: "xr.DataTree", run_id: str, study: str) -> Tracked:
    """A run of a cube with all that is sent of it."""
    one = _only(tree, run_id)
    table = one[RUNS_GROUP].to_dataset().isel(run=0)
    settings = {str(name): _plain(of.values) for name, of in table.data_vars.items() if name not in NO_SETTINGS}
    return Tracked(
        run_id=run_id,
        study=study,
        settings=settings,
        scalars=scalars_of(one),
        facts=facts_of(one),
        figures=figures_of(one),
    )


def scalars_of(one: "xr.DataTree") -> dict[str, dict[int, float]]:
    """Losses, errors, and the like on both splits, means over layers, and numbers of the network, by step."""
    found: dict[str, dict[int, float]] = {}
    if METRICS_GROUP in one.children:
        metrics = one[METRICS_GROUP].to_dataset().isel(run=0)
        for name, of in metrics.data_vars.items():
            if set(of.dims) == {"split", "step"}:
                found |= {f"{split}/{name}": _by_step(of.sel(split=split)) for split in SPLITS}
        found |= {f"network/{name}": _by_step(metrics[name]) for name in OF_NETWORK if name in metrics}
    if "layers" in one.children:
        layers = one["layers"].to_dataset().isel(run=0)
        found |= {f"layers/{name}": _by_step(layers[name].mean("layer")) for name in OF_LAYERS if name in layers}
    return {name: values for name, values in found.items() if values}


def facts_of(one: "xr.DataTree") -> dict[str, float]:
    """What is known of the run as a whole."""
    if METRICS_GROUP not in one.children:
        return {}
    metrics = one[METRICS_GROUP].to_dataset().isel(run=0)
    values = {name: float(metrics[name]) for name in RUN_FACTS if name in metrics}
    return {name: value for name, value in values.items() if np.isfinite(value)}


def figures_of(one: "xr.DataTree") -> dict[str, bytes]:
    """The figures that say most, of this run alone."""
    from specdyn.tasks.figures.report import FIRST, drawn
    from specdyn.tasks.figures.style import to_png

    return {name: to_png(figure) for name, figure in drawn(one, FIRST)}


def _only(tree: "xr.DataTree", run_id: str) -> "xr.DataTree":
    """The cube of one run, with the labels that it has values for."""
    import xarray as xr

    groups = {}
    for node in tree.subtree:
        data = node.to_dataset(inherit=False)
        groups[node.path] = data.sel(run=[run_id]) if "run" in data.dims else data
    return xr.DataTree.from_dict(groups)


def _by_step(values: "xr.DataArray") -> dict[int, float]:
    numbers = zip(values["step"].values.tolist(), values.values.tolist(), strict=True)
    return {int(step): float(value) for step, value in numbers if np.isfinite(value)}


def _plain(value: np.ndarray) -> Any:
    found = value.item()
    return found if isinstance(found, int | float | bool) else str(found)
