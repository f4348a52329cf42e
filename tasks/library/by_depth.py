"""Tables of layers by depth and kind, and whether their spectra predict which can be pruned."""

import re
from typing import TYPE_CHECKING, Any

import numpy as np

from specdyn.models.spec.checks import require
from specdyn.storage.schema import METRICS_GROUP

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

SHAPES = ("power_law_alpha", "stable_rank", "effective_rank")
"""The variables of a layer's spectrum that are compared with the cost of pruning it."""
COLUMNS = ("run", "step", "layer", "kind", "depth", "block", *SHAPES, "importance")
FEWEST = 4
"""Fewest layers for a rank correlation: with three, one order in six is perfect by chance."""


def by_depth(data: "xr.DataTree", metric: str = "loss", split: str = "val") -> "pd.DataFrame":
    """A row for each layer at each checkpoint of each run: kind, depth, spectrum, and cost of pruning.

    `data` is a cube. Columns: `kind`, the layer's role (query, key, value, output, up, ...) or else its kind, empty if
    unknown; `depth`, layers before it; `block`, the first number in its name; `power_law_alpha`, `stable_rank`,
    `effective_rank` (a fraction of the full rank); `importance`, the increase of the metric on that split when half of
    the layer's singular values are removed. NaN where a number does not exist or was not measured; the analyses are
    `power_law`, `shape`, `effective_rank` and `pruning_by_layer`. If `projections` was run, a joint projection of
    queries, keys and values also has a row for each, with its name in brackets. ValueError if the results have no
    layers (arXiv 2604.22778).
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
    # Layers that a run lacks, and steps of other runs, have no value.
    rows = pd.concat(frames).dropna(subset=[*SHAPES, "importance"], how="all")
    return rows.sort_values(["run", "step"], kind="stable").reset_index(drop=True)


def predicts_pruning(data: "xr.DataTree", metric: str = "loss", split: str = "val") -> "xr.Dataset":
    """Spearman's correlation of each layer's spectrum with the cost of pruning it, at each checkpoint of each run.

    Along `run`, `step` and `predictor` (`power_law_alpha`, `stable_rank`, `effective_rank`): `rho` over the layers that
    have both numbers, and `layers`, their number; NaN for fewer than 4, or if all are equal. There is no p-value, as
    layers of a network are not independent; compare rho over seeds instead. Published values for alpha: .69 to .84
    (arXiv 2604.22778). ValueError if `pruning_by_layer` has not measured the metric.
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
    """Increase of the metric (run, layer, step); NaN where it was not measured."""
    shape = tuple(layers.sizes[dim] for dim in ("run", "layer", "step"))
    node, name = data.children.get(METRICS_GROUP), f"layer_pruned_{metric}"
    if name not in layers or node is None or metric not in node.data_vars:
        return np.full(shape, np.nan)
    whole = node.to_dataset()[metric].sel(split=split).load()
    pruned = layers[name].sel(split=split)
    grown: np.ndarray = (pruned - whole).transpose("run", "layer", "step").values
    return grown


def _kinds(layers: "xr.Dataset") -> list[str]:
    """The coordinate `role` of each layer if known, else `kind`."""
    empty = [""] * layers.sizes["layer"]
    given = [_of_layers(layers, name, empty) for name in ("role", "kind")]
    return [str(role or kind) for role, kind in zip(*given, strict=True)]


def _depths(layers: "xr.Dataset") -> list[Any]:
    """The coordinate `depth`, or the order of the layers if there is none."""
    return _of_layers(layers, "depth", list(range(layers.sizes["layer"])))


def _of_layers(layers: "xr.Dataset", name: str, otherwise: list[Any]) -> list[Any]:
    shown = f"layer_{name}" if f"layer_{name}" in layers.coords else name  # where a setting has the name
    if shown not in layers.coords:
        return otherwise
    of = layers.coords[shown]
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
