"""What lies on the straight line between two trained networks: metrics, spectra, agreement of the ends (METHOD 4.8).

Shapes: P points on the line, L layers, R the largest rank, S splits.
"""

import hashlib
import logging
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from specdyn.models.nets.matrices import Matrix
from specdyn.models.spec.checks import require
from specdyn.models.spec.run_spec import RunSpec
from specdyn.storage.checkpoints import Manifest, read_finished, read_manifest
from specdyn.storage.identity import short_digest
from specdyn.storage.pairs import Values, read_values, values_url, write_values
from specdyn.tasks.connect.curves import train_control
from specdyn.tasks.connect.matching import groups, match, permute
from specdyn.tasks.connect.meter import Meter, data_key, padded
from specdyn.tasks.connect.paths import bezier, blend, blend_layer, distance
from specdyn.tasks.identity import data_of
from specdyn.tasks.spectra import nulls
from specdyn.tasks.spectra.agreement import SUBSPACES, compare
from specdyn.tasks.spectra.decomposition import Factors

log = logging.getLogger("specdyn.connectivity")

VERSION = 1
"""To be raised when stored values mean something else."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """Two finished runs of one network whose last checkpoints are connected."""

    a: RunSpec
    b: RunSpec
    kind: str
    """`within` a trunk, `across` trunks, or `perturbed`."""
    layerwise: bool = False
    """Interpolate each layer alone too."""
    curve_steps: int = 0
    """Updates of the control point of a curve between the ends; 0 is no curve."""
    points: int = 11
    """Places on the line, evenly spaced, its ends among them."""

    def __post_init__(self) -> None:
        require(self.points >= 3, "points", self.points, "3 or more")
        require(self.curve_steps >= 0, "curve_steps", self.curve_steps, "an integer of 0 or more")

    @property
    def alphas(self) -> tuple[float, ...]:
        """Places on the line, from 0 to 1."""
        return tuple(np.linspace(0, 1, self.points).tolist())

    @property
    def pair_id(self) -> str:
        """First 12 hex digits of the hash of what is asked: two runs, how they are connected, the version."""
        text = f"{self.a.run_id}/{self.b.run_id}/{self.layerwise}/{self.curve_steps}/{self.points}/{VERSION}"
        return hashlib.sha256(text.encode()).hexdigest()[:12]


def finished(spec: RunSpec, store: str) -> Manifest:
    """The manifest of a finished run; ValueError where it is not finished."""
    manifest = read_manifest(store, spec.experiment, spec.run_id)
    if manifest is None or manifest.status != "complete":
        raise ValueError(f"run {spec.run_id} of {spec.experiment} is not finished in {store}: train it first")
    return manifest


def end_id(manifest: Manifest, data: str) -> str:
    """The id of what is measured of a run's last checkpoint on the data of that key: it says of which weights."""
    return f"{manifest.run_id}-{data}-{short_digest(manifest.checkpoints[-1].sha256, VERSION)}"


def line_id(pair: Pair, a: Manifest, b: Manifest) -> str:
    """The id of what is measured between two runs: it says between which weights, and on which data."""
    ends = [manifest.checkpoints[-1].sha256 for manifest in (a, b)]
    return f"{pair.pair_id}-{short_digest(ends, data_of(pair.a))}"


def measure_end(spec: RunSpec, on: RunSpec, store: str) -> tuple[int, int]:
    """Measure a run's last checkpoint on the data of another, once for all pairs; a unit of work.

    Gives the evaluations of a split and the decompositions that it took; none where it was measured before.
    """
    manifest = finished(spec, store)
    url = values_url(store, spec.experiment, "ends", end_id(manifest, data_key(on, store)))
    if read_values(url) is not None:
        return 0, 0
    meter = Meter(on, store)
    weights = read_finished(store, manifest, manifest.steps[-1])
    values = meter.point(weights, meter.factors(weights, f"run {spec.run_id}"))
    write_values(url, values, {"run_id": spec.run_id, "evaluations": meter.evaluations})
    log.info("end of run %s: %d evaluations, %d decompositions", spec.run_id, meter.evaluations, meter.decompositions)
    return meter.evaluations, meter.decompositions


def connect(pair: Pair, store: str) -> tuple[int, int]:
    """Measure the line between two runs whose ends are measured; a unit of work, done once.

    Gives the evaluations of a split and the decompositions that it took. ValueError where the networks differ.
    """
    manifests = finished(pair.a, store), finished(pair.b, store)
    url = values_url(store, pair.a.experiment, "pairs", line_id(pair, *manifests))
    if read_values(url) is not None:
        return 0, 0
    meter, key = Meter(pair.a, store), data_key(pair.a, store)
    a, b = (read_finished(store, manifest, manifest.steps[-1]) for manifest in manifests)
    ends = [_end(store, manifest, key) for manifest in manifests]
    what = f"runs {pair.a.run_id} and {pair.b.run_id}"
    inner = [blend(a, b, alpha) for alpha in pair.alphas[1:-1]]
    points = [ends[0], *(meter.point(w, meter.factors(w, what)) for w in inner), ends[1]]
    values = {name: np.stack([point[name] for point in points]) for name in points[0]}
    factors = meter.factors(a, what), meter.factors(b, what)
    values |= agreements(meter.layers, *factors)
    apart = distance(a, b, [layer.parameter for layer in meter.layers])
    values |= {"distance": np.array(apart.l2), "cosine": np.array(apart.cosine)}
    values |= _matched(pair, meter, a, b, values)
    if pair.layerwise:
        values |= _layer_by_layer(pair, meter, a, b, ends[0])
    if pair.curve_steps:
        values |= _on_curve(pair, store, meter, (a, b), ends)
    counts = {"evaluations": meter.evaluations, "decompositions": meter.decompositions}
    write_values(url, values, {"a": pair.a.run_id, "b": pair.b.run_id, **counts})
    log.info("line between %s: %d evaluations, %d decompositions", what, meter.evaluations, meter.decompositions)
    return meter.evaluations, meter.decompositions


def _end(store: str, manifest: Manifest, key: str) -> Values:
    found = read_values(values_url(store, manifest.experiment, "ends", end_id(manifest, key)))
    if found is None:
        end = f"the end {manifest.run_id} of {manifest.experiment}"
        raise ValueError(f"{end} is not measured yet: measure ends before pairs")
    return found


def agreements(
    layers: tuple[Matrix, ...], a: Mapping[str, Factors], b: Mapping[str, Factors], prefix: str = ""
) -> Values:
    """Agreement of the ends: by rank and best match (L, R), score and chance (L,), overlap of subspaces (L, 2, k)."""
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


def _matched(
    pair: Pair, meter: Meter, a: Mapping[str, Tensor], b: Mapping[str, Tensor], values: Mapping[str, np.ndarray]
) -> Values:
    """The line to B with its hidden units in the order that fits A best; nothing for networks without known units."""
    try:
        units = groups(meter.net)
    except ValueError:
        return {}
    moved = permute(b, units, match(a, b, units, seed=0).permutations)
    inner = [meter.metrics(blend(a, moved, alpha)) for alpha in pair.alphas[1:-1]]
    # B computes the same in any order of its units, so that its end is measured already.
    ends = [{name: values[name][end, 0] for name in inner[0]} for end in (0, -1)]
    what = f"run {pair.b.run_id} matched"
    found = agreements(meter.layers, meter.factors(a, what), meter.factors(moved, what), "matched_")
    del found["matched_agreement_null"]
    rows = [ends[0], *inner, ends[1]]
    apart = distance(a, moved, [layer.parameter for layer in meter.layers])
    return {
        **{f"matched_{name}": np.stack([row[name] for row in rows]) for name in inner[0]},
        **found,
        "matched_distance": np.array(apart.l2),
    }


def _on_curve(
    pair: Pair, store: str, meter: Meter, ends: tuple[dict[str, Tensor], dict[str, Tensor]], measured: list[Values]
) -> Values:
    """Metrics (P, S) along the curve that is trained between the ends."""
    a, b = ends
    control = train_control(pair.a, store, a, b, pair.curve_steps)
    inner = [meter.metrics(bezier(a, control, b, t)) for t in pair.alphas[1:-1]]
    first, last = ({name: end[name][0] for name in meter.names} for end in measured)
    return {f"curve_{name}": np.stack([row[name] for row in (first, *inner, last)]) for name in meter.names}


def _layer_by_layer(pair: Pair, meter: Meter, a: Mapping[str, Tensor], b: Mapping[str, Tensor], end: Values) -> Values:
    """Metrics (P, L, S) where one layer goes from A to B and all else stays at A."""
    rows: list[dict[str, np.ndarray]] = []
    for layer in meter.layers:
        of_layer = [meter.metrics(blend_layer(a, b, alpha, [layer.parameter])) for alpha in pair.alphas[1:]]
        rows.append({name: np.stack([end[name][0], *(point[name] for point in of_layer)]) for name in meter.names})
    return {f"layer_{name}": np.stack([row[name] for row in rows], axis=1) for name in meter.names}
