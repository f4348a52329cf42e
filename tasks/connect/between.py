"""Measures the line between two trained networks: metrics, spectra, agreement of the ends (METHOD 4.8).

Shapes: P points on the line, L layers, R the largest rank, S splits.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from specdyn.models.nets.matrices import Matrix
from specdyn.storage.places import Store
from specdyn.storage.results import Values
from specdyn.tasks.connect.curves import train_control
from specdyn.tasks.connect.matching import groups, match, permute, places
from specdyn.tasks.connect.meter import Meter, padded
from specdyn.tasks.connect.pair import Pair
from specdyn.tasks.connect.paths import bezier, blend, blend_layer, distance
from specdyn.tasks.spectra import nulls
from specdyn.tasks.spectra.agreement import compare
from specdyn.tasks.spectra.decomposition import Factors, reordered
from specdyn.tasks.spectra.labels import SUBSPACES


def agreements(
    layers: tuple[Matrix, ...], a: Mapping[str, Factors], b: Mapping[str, Factors], prefix: str = ""
) -> Values:
    """Agreement of the ends: by rank and best match (L, R), score and chance (L,), subspace overlap (L, 2, k)."""
    compared = [compare(a[layer.name], b[layer.name], "")[0] for layer in layers]
    rows, columns = ([len(getattr(a[layer.name], side)) for layer in layers] for side in ("left", "right"))
    chance = [nulls.agreement(m, n) for m, n in zip(rows, columns, strict=True)]
    return {
        f"{prefix}agreement": padded([np.asarray(one["agreement"]) for one in compared]),
        f"{prefix}agreement_best_match": padded([np.asarray(one["agreement_best_match"]) for one in compared]),
        f"{prefix}agreement_score": np.array([one["agreement_score"] for one in compared], np.float32),
        f"{prefix}subspace_overlap": np.stack([_all_sizes(np.asarray(one["subspace_overlap"])) for one in compared]),
        f"{prefix}agreement_null": np.array(chance, np.float32),
    }


def _all_sizes(overlap: np.ndarray) -> np.ndarray:
    """Overlaps (side, k) for all of SUBSPACES, NaN beyond the layer's rank."""
    return np.pad(overlap, ((0, 0), (0, len(SUBSPACES) - overlap.shape[1])), constant_values=np.nan).astype(np.float32)


@dataclass(frozen=True, slots=True, kw_only=True)
class LineView:
    """Two finished runs, with everything needed to measure between them."""

    pair: Pair
    store: Store
    meter: Meter
    """Evaluates on the data of the first run."""
    weights: tuple[dict[str, Tensor], dict[str, Tensor]]
    """Weights of their last checkpoints."""
    ends: tuple[Values, Values]
    """Results of these."""
    factors: tuple[Mapping[str, Factors], Mapping[str, Factors]]
    """Factors of these, by layer."""

    @property
    def what(self) -> str:
        """The two runs' name in errors and logs."""
        return f"runs {self.pair.a.run_id} and {self.pair.b.run_id}"

    @property
    def parameters(self) -> list[str]:
        """The parameters included in distances."""
        return [layer.parameter for layer in self.meter.layers]


def points(view: LineView) -> Values:
    """Metrics and spectra at each point on the line."""
    meter, inner = view.meter, [blend(*view.weights, alpha) for alpha in view.pair.alphas[1:-1]]
    measured = [meter.point(weights, meter.decomposer.factors(weights, view.what)) for weights in inner]
    points = [view.ends[0], *measured, view.ends[1]]
    return {name: np.stack([point[name] for point in points]) for name in points[0]}


def of_ends(view: LineView) -> Values:
    """Agreement of the ends, and their distance."""
    apart = distance(*view.weights, view.parameters)
    found = agreements(view.meter.layers, *view.factors)
    return {**found, "distance": np.array(apart.l2), "cosine": np.array(apart.cosine)}


def matched(view: LineView) -> Values:
    """The line to B with its hidden units permuted to match A best."""
    meter, (a, b) = view.meter, view.weights
    units = groups(meter.net)
    order = match(a, b, units, seed=0).permutations
    moved = permute(b, units, order)
    # Permuting its units changes neither B's function, so its end is already measured, nor its factors but for the
    # order of rows and columns, so it is already decomposed.
    first, last = ({name: end[name][0] for name in meter.names} for end in view.ends)
    rows = [first, *(meter.metrics(blend(a, moved, alpha)) for alpha in view.pair.alphas[1:-1]), last]
    moved_factors = {
        layer.name: reordered(view.factors[1][layer.name], *places(layer, b, units, order)) for layer in meter.layers
    }
    found = agreements(meter.layers, view.factors[0], moved_factors, "matched_")
    del found["matched_agreement_null"]
    return {
        **{f"matched_{name}": np.stack([row[name] for row in rows]) for name in meter.names},
        **found,
        "matched_distance": np.array(distance(a, moved, view.parameters).l2),
    }


def on_curve(view: LineView) -> Values:
    """Metrics (P, S) along the trained curve between the ends."""
    meter, (a, b) = view.meter, view.weights
    control = train_control(view.pair.a, view.store, a, b, view.pair.curve_steps)
    inner = [meter.metrics(bezier(a, control, b, t)) for t in view.pair.alphas[1:-1]]
    first, last = ({name: end[name][0] for name in meter.names} for end in view.ends)
    return {f"curve_{name}": np.stack([row[name] for row in (first, *inner, last)]) for name in meter.names}


def layer_by_layer(view: LineView) -> Values:
    """Metrics (P, L, S) with one layer interpolated from A to B and all else fixed at A."""
    meter, end = view.meter, view.ends[0]
    rows: list[dict[str, np.ndarray]] = []
    for parameter in view.parameters:
        of_layer = [meter.metrics(blend_layer(*view.weights, alpha, [parameter])) for alpha in view.pair.alphas[1:]]
        rows.append({name: np.stack([end[name][0], *(point[name] for point in of_layer)]) for name in meter.names})
    return {f"layer_{name}": np.stack([row[name] for row in rows], axis=1) for name in meter.names}
