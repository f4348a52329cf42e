"""The pairs of a graph as one labelled data set: values along each line, and the barriers derived from them."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr

from specdyn.models.experiments.base import Metric, get_experiment
from specdyn.models.spec.run_spec import RunSpec
from specdyn.storage.pairs import Values
from specdyn.storage.schema import SPLITS
from specdyn.tasks.connect.line import Pair
from specdyn.tasks.connect.meter import KEPT
from specdyn.tasks.connect.paths import barrier, instability
from specdyn.tasks.spectra.agreement import SIDES, SUBSPACES
from specdyn.tasks.spectra.network_layout import anatomy

STRING = np.dtypes.StringDType()
FIXED: dict[str, tuple[tuple[str, ...], str, str]] = {
    "effective_rank": (("alpha", "layer"), "effective rank / rank", "exp(-sum p log p) / R, p = s / sum s"),
    "singular_value": (("alpha", "layer", "rank"), "singular value", "s_i of the blended matrix, descending"),
    "agreement": (("layer", "rank"), "agreement of the ends, same rank", "|<u_i, u'_i> <v_i, v'_i>|"),
    "agreement_best_match": (("layer", "rank"), "agreement of the ends, best match", "one-to-one, largest sum"),
    "agreement_score": (("layer",), "agreement of the ends, first 10 ranks", "mean over i up to 10"),
    "agreement_null": (("layer",), "agreement of two random matrices", "(2 / pi) / sqrt(M N)"),
    "subspace_overlap": (
        ("layer", "side", "subspace"),
        "overlap of the ends' leading subspaces",
        "||U_k' U'_k||^2 / k",
    ),
    "matched_subspace_overlap": (("layer", "side", "subspace"), "the same, units matched", "||U_k' U'_k||^2 / k"),
    "matched_agreement": (("layer", "rank"), "agreement of the ends, units matched", "|<u_i, u'_i> <v_i, v'_i>|"),
    "matched_agreement_best_match": (("layer", "rank"), "best match of the ends, units matched", "one-to-one"),
    "matched_agreement_score": (("layer",), "agreement, units matched, first 10 ranks", "mean over i up to 10"),
    "distance": ((), "distance of the ends", "||A - B|| over all layers"),
    "cosine": ((), "cosine of the ends", "<A, B> / (||A|| ||B||) over all layers"),
    "matched_distance": ((), "distance of the ends, units matched", "||A - P B||"),
}
"""Name -> dimensions after `pair`, long name, formula."""
OF_METRIC: dict[str, tuple[tuple[str, ...], str]] = {
    "{}": (("alpha", "kept", "split"), "{}"),
    "stored_{}": (("alpha", "split"), "{}, statistics of BatchNorm blended, not estimated anew"),
    "matched_{}": (("alpha", "split"), "{}, units of the other end matched"),
    "curve_{}": (("alpha", "split"), "{}, on a curve whose control point is trained"),
    "layer_{}": (("alpha", "layer", "split"), "{}, one layer on the line and the others at the first end"),
}


def dataset(pairs: Sequence[Pair], values: Sequence[Values], trunks: Sequence[RunSpec]) -> xr.Dataset:
    """All pairs as (pair, ...) with what tells them apart as coordinates; NaN where a pair has no value."""
    spec = pairs[0].a
    metrics = get_experiment(spec.experiment).metrics(spec)
    layers = [layer.name for layer in anatomy(spec).layers]
    of_trunk = {trunk.run_id: trunk for trunk in trunks}
    variables: dict[str, Any] = {}
    for name, (dims, attributes) in _declared(metrics).items():
        if any(name in one for one in values):
            variables[name] = (("pair", *dims), _stacked(name, values), attributes)
    data = xr.Dataset(variables, _coordinates(pairs, of_trunk, layers))
    return data.assign_coords(rank=np.arange(1, data.sizes["rank"] + 1)).assign(_barriers(data, metrics))


def _declared(metrics: Mapping[str, Metric]) -> dict[str, tuple[tuple[str, ...], dict[str, str]]]:
    """Dimensions after `pair` and attributes of everything that a pair may have."""
    found = {
        name: (dims, {"long_name": long_name, "units": "1", "comment": f"{about}; METHOD 4.8"})
        for name, (dims, long_name, about) in FIXED.items()
    }
    for form, (dims, long_name) in OF_METRIC.items():
        for name, metric in metrics.items():
            attributes = {"long_name": long_name.format(metric.long_name), "units": metric.units}
            found[form.format(name)] = (dims, attributes)
    return found


def _stacked(name: str, values: Sequence[Values]) -> np.ndarray:
    shape = next(one[name].shape for one in values if name in one)
    return np.stack([one[name] if name in one else np.full(shape, np.nan, np.float32) for one in values])


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
        "weight_decay": [pair.a.weight_decay for pair in pairs],
        "size": [0.0 if one is None else one.size for one in noise],
        "direction": ["none" if one is None else one.direction for one in noise],
    }
    return {
        "pair": np.array([pair.pair_id for pair in pairs], STRING),
        "alpha": list(pairs[0].alphas),
        "kept": np.array(KEPT, STRING),
        "split": np.array(SPLITS, STRING),
        "layer": np.array(layers, STRING),
        "side": np.array(SIDES, STRING),
        "subspace": list(SUBSPACES),
        **{name: ("pair", np.array(v, STRING) if isinstance(v[0], str) else v) for name, v in per_pair.items()},
    }


def _barriers(data: xr.Dataset, metrics: Mapping[str, Metric]) -> dict[str, xr.DataArray]:
    """Barrier and instability of every curve, signed (METHOD 4.8)."""
    curves = [form.format(name) for form in OF_METRIC for name in metrics] + ["effective_rank"]
    found = {}
    for name in (name for name in curves if name in data):
        curve = data[name].transpose(..., "alpha")
        for kind, of in (("barrier", barrier), ("instability", instability)):
            derived = curve.isel(alpha=0, drop=True).copy(data=of(curve.values).astype(np.float32))
            long_name = f"{kind} of {data[name].attrs['long_name']}"
            found[f"{kind}_{name}"] = derived.assign_attrs(data[name].attrs, long_name=long_name)
    return found
