"""Ids of runs' results: digests of checkpoints, data, and the runs from which a run started.

A result's name includes a digest of everything that determines it, so that results of other weights are never
mistaken for it, and listing shows what is missing for a retrained run.
"""

from collections.abc import Mapping

from specdyn.models.datasets.base import get_dataset
from specdyn.models.experiments.base import experiment_of, read_spec
from specdyn.models.spec.run_spec import RunSpec
from specdyn.storage.access import objects
from specdyn.storage.checkpoints import Manifest, read_manifest
from specdyn.storage.identity import short_digest
from specdyn.storage.places import Store

DATA = "data set "
"""Prefix of data sets among the origins of a run."""


def results_id(manifest: Manifest) -> str:
    """The name of a run's results: its id and a digest of all its checkpoints and its data.

    All checkpoints, since most analyses compare each with the first and the last.
    """
    spec = read_spec(manifest.spec, manifest.experiment)
    return f"{manifest.run_id}-{short_digest(manifest.digest, data_of(spec))}"


def known_results_id(manifest: Manifest) -> str:
    """The same; empty if the run's experiment is missing or has changed, so that the data are unknown."""
    try:
        return results_id(manifest)
    except ValueError:
        return ""


def data_of(spec: RunSpec) -> str:
    """The key of the data set on which a run is trained and evaluated; empty if its data are generated."""
    needed = experiment_of(spec).dataset(spec)
    return get_dataset(*needed).key if needed else ""


def data_of_plugin(spec: RunSpec) -> dict[str, str]:
    """The plug-in data set of a run with its key, which depends on its source; empty for other data sets."""
    needed = experiment_of(spec).dataset(spec)
    found = get_dataset(*needed) if needed else None
    return {f"{DATA}{found.label}": found.key} if found and found.source else {}


def origins_of(spec: RunSpec, store: Store) -> dict[str, str]:
    """The finished runs whose checkpoints affect a run's training, by id, with the digest of their checkpoints.

    These are its trunk, the previous round's ticket, and the run of its norms; also a plug-in data set.
    """
    start = spec.start
    ids = [spec.norms.run] if spec.norms.run else []
    if start is not None:
        ids += [start.run_id, start.ticket.previous if start.ticket else ""]
    found = (read_manifest(store.run(spec.experiment, run_id)) for run_id in dict.fromkeys(filter(None, ids)))
    runs = {manifest.run_id: manifest.digest for manifest in found if manifest and manifest.status == "complete"}
    return {**runs, **data_of_plugin(spec)}


def outdated(manifest: Manifest, origins: Mapping[str, str]) -> str:
    """Why a finished run must be retrained because an origin has changed; empty if none has."""
    changed = [origin for origin, digest in origins.items() if manifest.origins.get(origin, digest) != digest]
    if not changed:
        return ""
    if changed[0].startswith(DATA):
        return f"the source of its data set {changed[0].removeprefix(DATA)} has changed"
    return f"run {changed[0]}, which it started from or follows, was retrained and has different weights"


def computed_on(manifest: Manifest) -> str:
    """The computing environment of a run in one line; runs with equal ones are bitwise reproducible."""
    threads = f"{manifest.threads} {'thread' if manifest.threads == 1 else 'threads'}"
    torch_version = manifest.versions.get("torch")
    where = manifest.processor or manifest.device
    by = ["by tables"] if manifest.forward == "tables" else []
    return ", ".join([where, threads, *by, *([f"torch {torch_version}"] if torch_version else [])])


def require_norm_run(spec: RunSpec, store: Store) -> Manifest:
    """The manifest of the spec's `norm_run`; ValueError if that run is not finished, or has another network."""
    run_id = spec.norms.run
    manifest = read_manifest(store.run(spec.experiment, run_id))
    if manifest is None or manifest.status != "complete":
        state = "not finished" if manifest is None else manifest.status
        raise ValueError(
            f"norm_run={run_id!r} of {spec.experiment} is {state} in {store}: expected the run_id of a finished "
            "run, as `specdyn status SWEEP` and `specdyn show` print it; train that run first"
        )
    if (other := read_spec(manifest.spec, spec.experiment).net) != spec.net:
        raise ValueError(f"norm_run={run_id!r} has net={other}, this run {spec.net}: they must be the same")
    return manifest


def find_run(prefix: str, store: Store) -> tuple[str, str]:
    """Experiment and id of the run whose id starts with the prefix; ValueError if there are none or several."""
    found = [
        (experiment, run_id)
        for experiment in objects.names(store.checkpoints())
        for run_id in objects.names(store.checkpoints(experiment))
        if run_id.startswith(prefix)
    ]
    if len(found) != 1:
        which = ", ".join(run_id for _, run_id in found)
        some = f"several runs in {store} start" if found else f"no run in {store} starts"
        raise ValueError(f"{some} with {prefix!r}{f': {which}' if found else ''}; `specdyn status` shows the run_ids")
    return found[0]
