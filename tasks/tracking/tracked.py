"""One run in the form for trackers: its settings, its numbers by step, and its figures, read from a cube."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from specdyn.storage.schema import LIVE, METRICS_GROUP, RUNS_GROUP, SPLITS
from specdyn.tasks.figures.summary import RUN_FACTS

if TYPE_CHECKING:
    import xarray as xr

OF_LAYERS = ("effective_rank", "stable_rank", "spectral_norm", "frobenius_norm")
"""Variables sent as the mean over layers that have a value."""
OF_NETWORK = ("log_norm_product",)
NO_SETTINGS = {*LIVE} - {"computed_on"}

Scalars = Mapping[str, Mapping[int, float]]
"""Finite numbers by name and step: `val/loss`, `layers/effective_rank`, ..."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """The progress of a run in a cube."""

    done: bool
    results: str
    """Identifies its values: its spec and the versions of the code."""
    contents: str
    """Digest of the objects from which its values come."""


@dataclass(frozen=True, kw_only=True)
class Tracked:
    """A run with results, which are read lazily from its cube."""

    run_id: str
    study: str
    cube: "xr.DataTree"
    """The cube, restricted to this run."""

    @cached_property
    def settings(self) -> dict[str, Any]:
        """All settings, and its provenance."""
        table = self.cube[RUNS_GROUP].to_dataset().isel(run=0)
        return {str(name): _plain(of.values) for name, of in table.data_vars.items() if name not in NO_SETTINGS}

    @cached_property
    def scalars(self) -> Scalars:
        """Losses, errors and other metrics on both splits, means over layers, and numbers of the network."""
        found: dict[str, dict[int, float]] = {}
        if METRICS_GROUP in self.cube.children:
            metrics = self.cube[METRICS_GROUP].to_dataset().isel(run=0)
            for name, of in metrics.data_vars.items():
                if set(of.dims) == {"split", "step"}:
                    found |= {f"{split}/{name}": _by_step(of.sel(split=split)) for split in SPLITS}
            found |= {f"network/{name}": _by_step(metrics[name]) for name in OF_NETWORK if name in metrics}
        if "layers" in self.cube.children:
            layers = self.cube["layers"].to_dataset().isel(run=0)
            found |= {f"layers/{name}": _by_step(layers[name].mean("layer")) for name in OF_LAYERS if name in layers}
        return {name: values for name, values in found.items() if values}

    @cached_property
    def facts(self) -> dict[str, float]:
        """Facts of the run as a whole."""
        if METRICS_GROUP not in self.cube.children:
            return {}
        metrics = self.cube[METRICS_GROUP].to_dataset().isel(run=0)
        values = {name: float(metrics[name]) for name in RUN_FACTS if name in metrics}
        return {name: value for name, value in values.items() if np.isfinite(value)}

    @cached_property
    def figures(self) -> dict[str, bytes]:
        """The most informative figures of this run, as PNGs by name."""
        from specdyn.tasks.figures.report import FIRST, drawn
        from specdyn.tasks.figures.style import to_png

        return {name: to_png(figure) for name, figure in drawn(self.cube, FIRST)}


def measured_of(tree: "xr.DataTree") -> dict[str, Measured]:
    """The progress of each run in a cube that has results."""
    runs = tree[RUNS_GROUP].to_dataset()
    every = zip(*(runs[name].values.tolist() for name in ("run", "status", "results", "contents")), strict=True)
    return {
        str(run): Measured(done=status == "done", results=str(results), contents=str(contents))
        for run, status, results, contents in every
        if status == "done" or (status == "partial" and contents)
    }


def tracked(tree: "xr.DataTree", run_id: str, study: str) -> Tracked:
    """A run of a cube."""
    import xarray as xr

    groups = {}
    for node in tree.subtree:
        data = node.to_dataset(inherit=False)
        groups[node.path] = data.sel(run=[run_id]) if "run" in data.dims else data
    return Tracked(run_id=run_id, study=study, cube=xr.DataTree.from_dict(groups))


def without(scalars: Scalars, sent: Mapping[str, frozenset[int]]) -> dict[str, dict[int, float]]:
    """The numbers at unsent steps, in order."""
    new = {
        name: {step: values[step] for step in sorted(values) if step not in sent.get(name, ())}
        for name, values in scalars.items()
    }
    return {name: values for name, values in new.items() if values}


def _by_step(values: "xr.DataArray") -> dict[int, float]:
    numbers = zip(values["step"].values.tolist(), values.values.tolist(), strict=True)
    return {int(step): float(value) for step, value in numbers if np.isfinite(value)}


def _plain(value: np.ndarray) -> Any:
    found = value.item()
    return found if isinstance(found, int | float | bool) else str(found)
