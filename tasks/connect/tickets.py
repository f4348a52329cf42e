"""A lottery ticket beside the dense run that its mask is of: metrics, agreement, what the mask keeps (METHOD 4.7).

Shapes: T checkpoints of the ticket, L masked layers, R the largest rank, S splits.
"""

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr
from torch import Tensor

from specdyn.models.experiments.base import get_experiment
from specdyn.models.nets.matrices import Matrix
from specdyn.models.spec.run_spec import RunSpec
from specdyn.storage.checkpoints import Manifest, read_finished, read_manifest
from specdyn.storage.identity import short_digest
from specdyn.storage.pairs import Values, read_values, values_url, write_values
from specdyn.storage.schema import SPLITS
from specdyn.tasks.analyses.effective_rank import effective_ranks
from specdyn.tasks.connect.meter import Meter, padded
from specdyn.tasks.identity import data_of
from specdyn.tasks.spectra import nulls
from specdyn.tasks.spectra.agreement import compare
from specdyn.tasks.spectra.decomposition import Factors, decompose
from specdyn.tasks.training import masks
from specdyn.tasks.training.branches import mask_of, maskable, store_mask

log = logging.getLogger("specdyn.tickets")

VERSION = 1
"""To be raised when stored values mean something else."""

STRING = np.dtypes.StringDType()
DIMS: dict[str, tuple[tuple[str, ...], str, str]] = {
    "agreement_dense": (("step", "layer", "rank"), "agreement with the dense run, same step", "METHOD 4.7"),
    "agreement_dense_score": (("step", "layer"), "the same, mean of the first 10 ranks", "METHOD 4.7"),
    "agreement": (("step", "layer", "rank"), "agreement with the ticket's own end", "METHOD 4.2"),
    "agreement_score": (("step", "layer"), "the same, mean of the first 10 ranks", "METHOD 5"),
    "agreement_mask": (("layer", "rank"), "agreement of the dense end with what the mask leaves of it", "METHOD 4.7"),
    "agreement_mask_score": (("layer",), "the same, mean of the first 10 ranks", "METHOD 4.7"),
    "agreement_null": (("layer",), "agreement of two random matrices", "(2 / pi) / sqrt(M N)"),
    "effective_rank": (("step", "layer"), "effective rank / rank", "exp(-sum p log p) / R, p = s / sum s"),
    "kept_energy": (("layer",), "squares of the dense end's weights that the mask keeps", "share of their sum"),
    "layer_density": (("layer",), "share of the layer's weights that the mask keeps", "kept / all"),
    "overlap": (("layer",), "overlap with the magnitude mask of this density", "kept in both / kept in either"),
}
"""Name -> dimensions after `ticket`, long name, source or formula."""


def examine(spec: RunSpec, store: str) -> tuple[int, int]:
    """Measure a finished ticket at each of its checkpoints, once; a unit of work.

    Gives the evaluations of a split and the decompositions that it took: two a layer and checkpoint, the dense run's
    and its own, and those of what the mask leaves of the dense end.
    """
    assert spec.start is not None and spec.start.ticket is not None
    own, dense = (_finished(spec.experiment, run_id, store) for run_id in (spec.run_id, spec.start.run_id))
    url = values_url(store, spec.experiment, "tickets", comparison_id(spec, own, dense))
    if read_values(url) is not None:
        return 0, 0
    meter, layers = Meter(spec, store), maskable(spec)
    mask = mask_of(spec, store)
    work = _Decomposer(layers)
    final = work.factors(read_finished(store, own, own.steps[-1]), f"ticket {spec.run_id}")
    rows = []
    for step in own.steps:
        weights, theirs = read_finished(store, own, step), read_finished(store, dense, step)
        what = f"ticket {spec.run_id} step {step}"
        now = final if step == own.steps[-1] else work.factors(weights, what)
        rows.append(_row(meter, layers, weights, now, work.factors(theirs, what), final))
    values = {name: np.stack([row[name] for row in rows]) for name in rows[0]}
    values |= _of_mask(spec, work, mask, read_finished(store, dense, dense.steps[-1]))
    body = {"run_id": spec.run_id, "mask": store_mask(store, mask), "steps": list(own.steps)}
    write_values(url, values, {**body, "evaluations": meter.evaluations, "decompositions": work.made})
    log.info("ticket %s: %d evaluations, %d decompositions", spec.run_id, meter.evaluations, work.made)
    return meter.evaluations, work.made


def comparison_id(spec: RunSpec, own: Manifest, dense: Manifest) -> str:
    """The id of what is measured of a ticket: it says of which weights, its own, the dense run's and the mask's."""
    return f"{spec.run_id}-{short_digest(own.digest, own.origins, dense.digest, data_of(spec), VERSION)}"


class _Decomposer:
    """Decomposes the masked layers, and counts."""

    def __init__(self, layers: Sequence[Matrix]) -> None:
        self.layers, self.made = layers, 0

    def factors(self, weights: Mapping[str, Tensor], what: str) -> dict[str, Factors]:
        self.made += len(self.layers)
        return {layer.name: decompose(layer.of(weights), f"{what} layer {layer.name}") for layer in self.layers}


def _finished(experiment: str, run_id: str, store: str) -> Manifest:
    manifest = read_manifest(store, experiment, run_id)
    if manifest is None or manifest.status != "complete":
        raise ValueError(f"run {run_id} of {experiment} is not finished in {store}: train it first")
    return manifest


def _row(
    meter: Meter,
    layers: Sequence[Matrix],
    weights: Mapping[str, Tensor],
    now: Mapping[str, Factors],
    dense: Mapping[str, Factors],
    final: Mapping[str, Factors],
) -> Values:
    """One checkpoint: metrics (S,), agreement with the dense run and with the ticket's end, effective ranks."""
    with_dense = _agreements("agreement_dense", layers, now, dense)
    ranks = [effective_ranks(now[layer.name].s.numpy())[0] for layer in layers]
    return {
        **meter.metrics(weights, renewed=False),
        **with_dense,
        **_agreements("agreement", layers, now, final),
        "effective_rank": np.array(ranks, np.float32),
    }


def _agreements(
    name: str, layers: Sequence[Matrix], a: Mapping[str, Factors], b: Mapping[str, Factors]
) -> dict[str, np.ndarray]:
    """Agreement by rank (L, R) and its mean over the first ten (L,)."""
    compared = [compare(a[layer.name], b[layer.name], "")[0] for layer in layers]
    return {
        name: padded([np.asarray(one["agreement"]) for one in compared]),
        f"{name}_score": np.array([one["agreement_score"] for one in compared], np.float32),
    }


def _of_mask(spec: RunSpec, work: _Decomposer, mask: masks.Mask, dense: Mapping[str, Tensor]) -> Values:
    """What the mask keeps of the dense end: agreement with it, energy, densities, overlap with the magnitude mask."""
    assert spec.start is not None and spec.start.ticket is not None
    chosen = {name: dense[name] for name in mask}
    whole = work.factors(dense, "dense end")
    left = work.factors({**dense, **masks.apply(chosen, mask)}, "masked dense end")
    largest = masks.magnitude(chosen, spec.start.ticket.density)
    shapes = [(len(whole[layer.name].left), len(whole[layer.name].right)) for layer in work.layers]
    by_layer = [masks.kept_energy(chosen, mask), masks.densities(mask), masks.overlap(mask, largest)]
    return {
        **_agreements("agreement_mask", work.layers, whole, left),
        "agreement_null": np.array([nulls.agreement(m, n) for m, n in shapes], np.float32),
        **{
            name: np.array([found[layer.parameter] for layer in work.layers], np.float32)
            for name, found in zip(("kept_energy", "layer_density", "overlap"), by_layer, strict=True)
        },
    }


def dataset(tickets: Sequence[RunSpec], values: Sequence[Values], steps: Sequence[int]) -> xr.Dataset:
    """All tickets as (ticket, ...) with density, kind of mask and seeds as coordinates."""
    spec = tickets[0]
    metrics = get_experiment(spec.experiment).metrics(spec)
    declared: dict[str, tuple[tuple[str, ...], dict[str, str]]] = {
        name: (dims, {"long_name": long_name, "units": "1", "comment": about})
        for name, (dims, long_name, about) in DIMS.items()
    }
    declared |= {
        name: (("step", "split"), {"long_name": metric.long_name, "units": metric.units})
        for name, metric in metrics.items()
    }
    variables = {
        name: (("ticket", *dims), np.stack([one[name] for one in values]), attributes)
        for name, (dims, attributes) in declared.items()
    }
    starts = [ticket.start for ticket in tickets]
    per_ticket: dict[str, list[Any]] = {
        "trunk": [ticket.seed for ticket in tickets],
        "order": [start.order for start in starts if start],
        "rewind_step": [start.step for start in starts if start],
        "density": [start.ticket.density for start in starts if start and start.ticket],
        "mask": [start.ticket.mask for start in starts if start and start.ticket],
    }
    data = xr.Dataset(
        variables,
        {
            "ticket": np.array([ticket.run_id for ticket in tickets], STRING),
            "step": list(steps),
            "split": np.array(SPLITS, STRING),
            "layer": np.array([layer.name for layer in maskable(spec)], STRING),
            **{n: ("ticket", np.array(v, STRING) if isinstance(v[0], str) else v) for n, v in per_ticket.items()},
        },
    )
    return data.assign_coords(rank=np.arange(1, data.sizes["rank"] + 1))
