"""The shape of each layer's spectrum by depth and kind, and whether it predicts which layers can be pruned."""

import re
from typing import TYPE_CHECKING, Any

import numpy as np

from specdyn.models.spec.checks import require
from specdyn.storage.schema import METRICS_GROUP

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

SHAPES = ("power_law_alpha", "stable_rank", "effective_rank")
"""The variables of a layer's spectrum that are set beside what pruning it costs."""
COLUMNS = ("run", "step", "layer", "kind", "depth", "block", *SHAPES, "importance")
FEWEST = 4
"""Layers below which ranks are not correlated: of three, one order of six is perfect by chance."""


def by_depth(data: "xr.DataTree", metric: str = "loss", split: str = "val") -> "pd.DataFrame":
    """A row for each layer at each checkpoint of each run: kind, depth, spectrum, and what pruning it costs.

    `data` is a cube. Columns: `kind`, what the layer does (query, key, value, output, up, ...) or what it belongs to,
    empty where that is not known; `depth`, layers before it; `block`, the first number in its name; `power_law_alpha`,
    `stable_rank`, `effective_rank` (a fraction of the full rank); `importance`, by how much the metric on that split
    grows when half of the layer's singular values are removed. NaN where a number does not exist or was not measured:
    `power_law`, `shape`, `effective_rank` and `pruning_by_layer` measure them. A joint projection of queries, keys and
    values has rows for the three too, called by them in brackets, where `projections` has run. ValueError where the
    results have no layers (arXiv 2604.22778).
    """
    import pandas as pd

    layers = _layers(data)
    kinds, depths = _kinds(layers), _depths(layers)
    worth = _importance(data, layers, metric, split)
    names = [str(name) for name in layers["layer"].values]
    frames = []
    for i, layer in enumerate(names):
        about = {"kind": kinds[i], "depth": depths[i], "block": _block(layer)}
        values = {name: layers[name].isel(layer=i) for name in SHAPES if name in layers}
        frames.append(_rows(layers, layer, about, values, worth[:, i]))
        for part in layers["projection"].values if "projection" in layers.coords else ():
            of_part = {
                name: layers[f"projection_{name}"].isel(layer=i).sel(projection=part)
                for name in SHAPES
                if f"projection_{name}" in layers
            }
            nothing = np.full_like(worth[:, i], np.nan)
            frames.append(_rows(layers, f"{layer}[{part}]", {**about, "kind": str(part)}, of_part, nothing))
    # Layers that a run lacks, and checkpoints of other runs, have no value.
    rows = pd.concat(frames).dropna(subset=[*SHAPES, "importance"], how="all")
    return rows.sort_values(["run", "step"], kind="stable").reset_index(drop=True)


def predicts_pruning(data: "xr.DataTree", metric: str = "loss", split: str = "val") -> "xr.Dataset":
    """Spearman's correlation of each layer's spectrum with what pruning it costs, at each checkpoint of each run.

    Along `run`, `step` and `predictor` (`power_law_alpha`, `stable_rank`, `effective_rank`): `rho` over the layers that
    have both numbers, and `layers`, how many these are; NaN below 4, and where all are equal. No p-value: layers of one
    network are no independent draws, runs are, so compare rho over seeds. Reported elsewhere for alpha: .69 to .84
    (arXiv 2604.22778). ValueError where `pruning_by_layer` has not measured the metric.
    """
    import warnings

    import xarray as xr
    from scipy import stats

    layers = _layers(data)
    worth = _importance(data, layers, metric, split)
    require(bool(np.isfinite(worth).any()), "data", "none", f"layer_pruned_{metric}, which pruning_by_layer measures")
    shape = (*worth.shape[::2], len(SHAPES))
    rho, count = np.full(shape, np.nan), np.zeros(shape, dtype=int)
    for k, name in enumerate(SHAPES):
        if name not in layers:
            continue
        values = layers[name].transpose("run", "layer", "step").values
        for run, step in np.ndindex(shape[:2]):
            x, y = values[run, :, step], worth[run, :, step]
            both = np.isfinite(x) & np.isfinite(y)
            count[run, step, k] = both.sum()
            if both.sum() >= FEWEST:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore", stats.ConstantInputWarning)
                    rho[run, step, k] = stats.spearmanr(x[both], y[both]).statistic
    dims = ("run", "step", "predictor")
    said = f"Spearman correlation with the growth of {metric} ({split}) when half of the layer is removed"
    along = {name: of for name, of in layers.coords.items() if of.dims in (("run",), ("step",))}
    return xr.Dataset(
        {"rho": (dims, rho, {"long_name": said}), "layers": (dims, count, {"long_name": "layers correlated"})},
        {**along, "predictor": list(SHAPES)},
    )


def _layers(data: "xr.DataTree") -> "xr.Dataset":
    import xarray as xr

    node = data.children.get("layers") if isinstance(data, xr.DataTree) else None
    if node is None or "run" not in node.dims:
        raise ValueError("no layers in these results: expected a whole cube of runs")
    found = node.to_dataset()
    wanted = [
        name for name in found.data_vars if name in SHAPES or str(name).startswith(("projection_", "layer_pruned_"))
    ]
    return found[wanted].load()


def _importance(data: "xr.DataTree", layers: "xr.Dataset", metric: str, split: str) -> np.ndarray:
    """Growth of the metric (run, layer, step); NaN where it was not measured."""
    shape = tuple(layers.sizes[dim] for dim in ("run", "layer", "step"))
    node, name = data.children.get(METRICS_GROUP), f"layer_pruned_{metric}"
    if name not in layers or node is None or metric not in node.data_vars:
        return np.full(shape, np.nan)
    whole = node.to_dataset()[metric].sel(split=split).load()
    pruned = layers[name].sel(split=split)
    grown: np.ndarray = (pruned - whole).transpose("run", "layer", "step").values
    return grown


def _kinds(layers: "xr.Dataset") -> list[str]:
    """By the coordinate `role` where that is known of a layer, else by `kind`."""
    empty = [""] * layers.sizes["layer"]
    given = [_of_layers(layers, name, empty) for name in ("role", "kind")]
    return [str(role or kind) for role, kind in zip(*given, strict=True)]


def _depths(layers: "xr.Dataset") -> list[Any]:
    """By the coordinate `depth`; in the order of the layers where there is none."""
    return _of_layers(layers, "depth", list(range(layers.sizes["layer"])))


def _of_layers(layers: "xr.Dataset", name: str, otherwise: list[Any]) -> list[Any]:
    if name not in layers.coords:
        return otherwise
    of = layers.coords[name]
    return list((of if of.dims == ("layer",) else of.isel(run=0)).values)


def _block(layer: str) -> float:
    found = re.search(r"\d+", layer)
    return float(found[0]) if found else np.nan


def _rows(
    layers: "xr.Dataset", layer: str, about: dict[str, Any], values: "dict[str, xr.DataArray]", worth: np.ndarray
) -> "pd.DataFrame":
    import pandas as pd

    runs, steps = layers["run"].values, layers["step"].values
    columns: dict[str, Any] = {
        "run": np.repeat([str(run) for run in runs], len(steps)),
        "step": np.tile(steps, len(runs)),
        "layer": layer,
        **about,
        **dict.fromkeys(SHAPES, np.nan),
        **{name: of.transpose("run", "step").values.ravel() for name, of in values.items()},
        "importance": worth.ravel(),
    }
    return pd.DataFrame(columns)[list(COLUMNS)]
