"""Units of work for the line between two trained networks: its ends, and the line itself (METHOD 4.8)."""

import logging

from specdyn.models.experiments.base import experiment_of
from specdyn.models.spec.run_spec import RunSpec
from specdyn.storage.checkpoints import Manifest, read_finished
from specdyn.storage.places import Store
from specdyn.storage.results import Values, present, read_values, write_values
from specdyn.tasks.connect.between import LineView
from specdyn.tasks.connect.declared import measure
from specdyn.tasks.connect.factors import Decomposer, finished_run
from specdyn.tasks.connect.ids import end_id, line_id
from specdyn.tasks.connect.meter import Meter, data_key
from specdyn.tasks.connect.pair import Pair
from specdyn.tasks.connect.rows import line_analyses
from specdyn.tasks.spectra.network_layout import network_layout
from specdyn.tasks.work import Work

log = logging.getLogger("specdyn.connectivity")


def finished(spec: RunSpec, store: Store) -> Manifest:
    """The manifest of a finished run; ValueError if it is not finished."""
    return finished_run(spec.experiment, spec.run_id, store)


def decompose_end(spec: RunSpec, store: Store) -> Work:
    """Store the factors of a run's last checkpoint for all its measurements; a unit of work.

    Does nothing if they are stored already.
    """
    manifest, decomposer = finished(spec, store), Decomposer(network_layout(spec).layers)
    decomposer.shared(store, manifest, manifest.steps[-1])
    log.info("end of run %s: %d decompositions", spec.run_id, decomposer.made)
    return Work(decompositions=decomposer.made)


def measure_end(spec: RunSpec, on: RunSpec, store: Store) -> Work:
    """Measure a run's last checkpoint on the data of another, once for all pairs; a unit of work.

    Returns the number of evaluations of a split and of decompositions; zero if it was measured before.
    """
    manifest = finished(spec, store)
    url = store.result("ends", spec.experiment, end_id(manifest, data_key(on, store)))
    if present(url):
        return Work()
    meter = Meter(on, store)
    weights = read_finished(store, manifest, manifest.steps[-1])
    values = meter.point(weights, meter.decomposer.shared(store, manifest, manifest.steps[-1]))
    write_values(url, values, {"run_id": spec.run_id, "evaluations": meter.evaluations})
    log.info("end of run %s: %d evaluations, %d decompositions", spec.run_id, meter.evaluations, meter.decompositions)
    return Work(evaluations=meter.evaluations, decompositions=meter.decompositions)


def connect(pair: Pair, store: Store) -> Work:
    """Measure the line between two runs whose ends are measured; a unit of work, done once.

    Returns the number of evaluations of a split and of decompositions. ValueError if the networks differ.
    """
    manifests = finished(pair.a, store), finished(pair.b, store)
    url = store.result("pairs", pair.a.experiment, line_id(pair, *manifests))
    if present(url):
        return Work()
    meter, key = Meter(pair.a, store), data_key(pair.a, store)
    a, b = (read_finished(store, manifest, manifest.steps[-1]) for manifest in manifests)
    ends = [_end(store, manifest, key) for manifest in manifests]
    first, last = (meter.decomposer.shared(store, manifest, manifest.steps[-1]) for manifest in manifests)
    view = LineView(pair=pair, store=store, meter=meter, weights=(a, b), ends=(ends[0], ends[1]), factors=(first, last))
    layout = network_layout(pair.a)
    sizes = {"alpha": pair.points, "layer": len(layout.layers), "rank": layout.ranks}
    metrics = experiment_of(pair.a).metrics(pair.a)
    values = measure(line_analyses(pair, meter.net), view, metrics, sizes, view.what)
    counts = {"evaluations": meter.evaluations, "decompositions": meter.decompositions}
    write_values(url, values, {"a": pair.a.run_id, "b": pair.b.run_id, **counts})
    log.info("line between %s: %d evaluations, %d decompositions", view.what, meter.evaluations, meter.decompositions)
    return Work(evaluations=meter.evaluations, decompositions=meter.decompositions)


def _end(store: Store, manifest: Manifest, key: str) -> Values:
    found = read_values(store.result("ends", manifest.experiment, end_id(manifest, key)))
    if found is None:
        end = f"the end {manifest.run_id} of {manifest.experiment}"
        raise ValueError(f"{end} is not measured yet: measure ends before pairs")
    return found.values
