"""The pairs of a graph as one labelled data set: values along each line, and the barriers derived from them."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr

from specdyn.models.experiments.base import get_experiment
from specdyn.models.spec.run_spec import RunSpec
from specdyn.storage.results import Values
from specdyn.tasks.connect.declared import labels_of, stacked, variables_of
from specdyn.tasks.connect.pair import Pair
from specdyn.tasks.connect.paths import barrier, instability
from specdyn.tasks.connect.variables import LINE
from specdyn.tasks.spectra.network_layout import network_layout

STRING = np.dtypes.StringDType()


def dataset(pairs: Sequence[Pair], values: Sequence[Values], trunks: Sequence[RunSpec]) -> xr.Dataset:
    """All pairs as (pair, ...) with what tells them apart as coordinates; NaN where a pair has no value."""
    spec = pairs[0].a
    metrics = get_experiment(spec.experiment).metrics(spec)
    layers = [layer.name for layer in network_layout(spec).layers]
    of_trunk = {trunk.run_id: trunk for trunk in trunks}
    variables = stacked(variables_of(LINE, metrics), "pair", values)
    data = xr.Dataset(variables, _coordinates(pairs, of_trunk, layers))
    return data.assign_coords(rank=np.arange(1, data.sizes["rank"] + 1)).assign(_barriers(data))


def _coordinates(pairs: Sequence[Pair], trunks: Mapping[str, RunSpec], layers: Sequence[str]) -> dict[str, Any]:
    def of(side: str, what: str) -> list[Any]:
        return [getattr(getattr(pair, side).start, what) for pair in pairs]

    noise = [pair.a.start.perturbation if pair.a.start else None for pair in pairs]
    per_pair: dict[str, Any] = {
        "kind": [pair.kind for pair in pairs],
        "run_a": [pair.a.run_id for pair in pairs],
        "run_b": [pair.b.run_id for pair in pairs],
        "trunk_a": [trunks[run].seed for run in of("a", "run_id")],
        "trunk_b": [trunks[run].seed for run in of("b", "run_id")],
        "split_step": of("a", "step"),
        "order_a": of("a", "order"),
        "order_b": of("b", "order"),
        "weight_decay": [pair.a.decay.weight_decay for pair in pairs],
        "size": [0.0 if one is None else one.size for one in noise],
        "direction": ["none" if one is None else one.direction for one in noise],
    }
    return {
        "pair": np.array([pair.pair_id for pair in pairs], STRING),
        "alpha": list(pairs[0].alphas),
        "layer": np.array(layers, STRING),
        **{dim: np.array(of, STRING) if isinstance(of[0], str) else list(of) for dim, of in labels_of(LINE).items()},
        **{name: ("pair", np.array(v, STRING) if isinstance(v[0], str) else v) for name, v in per_pair.items()},
    }


def _barriers(data: xr.Dataset) -> dict[str, xr.DataArray]:
    """Barrier and instability of every curve, signed (METHOD 4.8)."""
    curves = [str(name) for name, of in data.data_vars.items() if "alpha" in of.dims and "rank" not in of.dims]
    found = {}
    for name in curves:
        curve = data[name].transpose(..., "alpha")
        for kind, of in (("barrier", barrier), ("instability", instability)):
            derived = curve.isel(alpha=0, drop=True).copy(data=of(curve.values).astype(np.float32))
            long_name = f"{kind} of {data[name].attrs['long_name']}"
            found[f"{kind}_{name}"] = derived.assign_attrs(data[name].attrs, long_name=long_name)
    return found
