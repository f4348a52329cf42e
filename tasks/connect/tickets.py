"""Compares a lottery ticket with its dense run: metrics, agreement, what the mask keeps (METHOD 4.7).

Shapes: T checkpoints of the ticket, L masked layers, R the largest rank, S splits.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from specdyn.models.experiments.base import experiment_of
from specdyn.models.nets.matrices import Matrix
from specdyn.models.spec.run_spec import RunSpec
from specdyn.storage.checkpoints import Manifest, read_finished
from specdyn.storage.places import Store
from specdyn.storage.results import Values, present, write_values
from specdyn.tasks.analyses.effective_rank import effective_ranks
from specdyn.tasks.connect.declared import measure
from specdyn.tasks.connect.factors import Decomposer, finished_run
from specdyn.tasks.connect.ids import comparison_id
from specdyn.tasks.connect.meter import Meter, padded
from specdyn.tasks.connect.rows import masked_layers
from specdyn.tasks.connect.variables import TICKET
from specdyn.tasks.spectra import nulls
from specdyn.tasks.spectra.agreement import compare
from specdyn.tasks.spectra.decomposition import Factors
from specdyn.tasks.training import masks
from specdyn.tasks.training.branches import mask_of, maskable, store_mask
from specdyn.tasks.work import Work

log = logging.getLogger("specdyn.tickets")


def decompose_dense(trunk: RunSpec, first: int, store: Store) -> Work:
    """Store the factors of a dense run's checkpoints from a step on, for all of its tickets; a unit of work.

    Takes one decomposition per masked layer and checkpoint whose factors are not stored yet.
    """
    dense, decomposer = finished_run(trunk.experiment, trunk.run_id, store), Decomposer(maskable(trunk))
    for step in dense.steps:
        if step >= first:
            decomposer.shared(store, dense, step)
    log.info("dense run %s: %d decompositions", trunk.run_id, decomposer.made)
    return Work(decompositions=decomposer.made)


def examine(spec: RunSpec, store: Store) -> Work:
    """Measure a finished ticket at each of its checkpoints, once; a unit of work.

    Takes one decomposition per masked layer and checkpoint, plus one per layer of the masked dense end. The dense
    run's factors are read from the store; missing ones are computed and counted.
    """
    assert spec.start is not None and spec.start.ticket is not None
    own, dense = (finished_run(spec.experiment, run_id, store) for run_id in (spec.run_id, spec.start.run_id))
    url = store.result("tickets", spec.experiment, comparison_id(spec, own, dense))
    if present(url):
        return Work()
    layers, ranks = masked_layers(spec)
    view = TicketView(
        spec=spec,
        store=store,
        own=own,
        dense=dense,
        meter=Meter(spec, store),
        decomposer=Decomposer(layers),
        mask=mask_of(spec, store),
    )
    sizes = {"step": len(own.steps), "layer": len(layers), "rank": ranks}
    values = measure(TICKET, view, experiment_of(spec).metrics(spec), sizes, f"ticket {spec.run_id}")
    counts = {"evaluations": view.meter.evaluations, "decompositions": view.decomposer.made}
    metadata = {"run_id": spec.run_id, "mask": store_mask(store, view.mask), "steps": list(own.steps)}
    write_values(url, values, {**metadata, **counts})
    log.info("ticket %s: %d evaluations, %d decompositions", spec.run_id, *counts.values())
    return Work(evaluations=view.meter.evaluations, decompositions=view.decomposer.made)


@dataclass(frozen=True, slots=True, kw_only=True)
class TicketView:
    """A finished ticket and its dense run, with everything needed to measure the ticket."""

    spec: RunSpec
    store: Store
    own: Manifest
    dense: Manifest
    meter: Meter
    decomposer: Decomposer
    """Decomposes the masked layers."""
    mask: masks.Mask


def of_checkpoints(view: TicketView) -> Values:
    """Metrics (T, S), agreement with the dense run and with the ticket's end (T, L, R), effective ranks (T, L)."""
    work, layers, steps = view.decomposer, view.decomposer.layers, view.own.steps
    final = work.factors(read_finished(view.store, view.own, steps[-1]), f"ticket {view.spec.run_id}")
    rows = []
    for step in steps:
        weights = read_finished(view.store, view.own, step)
        what = f"ticket {view.spec.run_id} step {step}"
        now = final if step == steps[-1] else work.factors(weights, what)
        ranks = [effective_ranks(now[layer.name].s.numpy())[0] for layer in layers]
        rows.append(
            {
                **view.meter.metrics(weights, renewed=False),
                **_agreements("agreement_dense", layers, now, work.shared(view.store, view.dense, step)),
                **_agreements("agreement", layers, now, final),
                "effective_rank": np.array(ranks),
            }
        )
    return {name: np.stack([row[name] for row in rows]) for name in rows[0]}


def _agreements(
    name: str, layers: Sequence[Matrix], a: Mapping[str, Factors], b: Mapping[str, Factors]
) -> dict[str, np.ndarray]:
    """Agreement by rank (L, R) and its mean over the first ten (L,)."""
    compared = [compare(a[layer.name], b[layer.name], "")[0] for layer in layers]
    return {
        name: padded([np.asarray(one["agreement"]) for one in compared]),
        f"{name}_score": np.array([one["agreement_score"] for one in compared], np.float32),
    }


def of_mask(view: TicketView) -> Values:
    """Properties of the masked dense end: agreement, energy, densities, overlap with the magnitude mask."""
    assert view.spec.start is not None and view.spec.start.ticket is not None
    work, layers, end = view.decomposer, view.decomposer.layers, view.dense.steps[-1]
    dense, whole = read_finished(view.store, view.dense, end), work.shared(view.store, view.dense, end)
    chosen = {name: dense[name] for name in view.mask}
    left = work.factors({**dense, **masks.apply(chosen, view.mask)}, "masked dense end")
    largest = masks.magnitude(chosen, view.spec.start.ticket.density)
    shapes = [(len(whole[layer.name].left), len(whole[layer.name].right)) for layer in layers]
    by_layer = {
        "kept_energy": masks.kept_energy(chosen, view.mask),
        "layer_density": masks.densities(view.mask),
        "overlap": masks.overlap(view.mask, largest),
    }
    return {
        **_agreements("agreement_mask", layers, whole, left),
        "agreement_null": np.array([nulls.agreement(m, n) for m, n in shapes]),
        **{name: np.array([found[layer.parameter] for layer in layers]) for name, found in by_layer.items()},
    }
