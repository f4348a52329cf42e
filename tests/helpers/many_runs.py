"""Fills a store with very many trained and analysed runs, by copying the results of one real run."""

import dataclasses
from collections.abc import Sequence

from specdyn.models.experiments.base import get_experiment
from specdyn.models.spec.run_spec import RunSpec, to_json
from specdyn.models.spec.settings import with_settings
from specdyn.storage.access import objects
from specdyn.storage.access.codec import encode
from specdyn.storage.checkpoints import read_manifest
from specdyn.storage.places import Store
from specdyn.tasks.identity import results_id

SETTINGS = {"steps": 20, "checkpoint_every": 10}
SPEC = with_settings(get_experiment("modular_addition").preset("smoke").spec, weight_decay=0.0, **SETTINGS)
"""A run that takes a second, with three checkpoints."""


def seeds_of(spec: RunSpec, count: int) -> list[RunSpec]:
    """A run at that many seeds."""
    return [dataclasses.replace(spec, seed=seed) for seed in range(count)]


def put_copies(model: RunSpec, specs: Sequence[RunSpec], store: Store) -> None:
    """Make the store contain these runs as trained and analysed, with the values of a model run that really is.

    Their checkpoints exist only in the manifests.
    """
    manifest = read_manifest(store.run_of(model))
    assert manifest is not None, f"{model.run_id} is not trained"
    folder = store.run_results(model.experiment, results_id(manifest))
    results = {name: objects.read(f"{folder}/{name}") for name in objects.names(folder)}
    files: dict[str, bytes] = {}
    for spec in specs:
        copy = dataclasses.replace(manifest, run_id=spec.run_id, spec=to_json(spec))
        place = store.run_results(spec.experiment, results_id(copy))
        files[store.run_of(spec).manifest] = encode(copy)
        files |= {f"{place}/{name}": data for name, data in results.items()}
    objects.write_all(store.url, {url.removeprefix(f"{store.url}/"): data for url, data in files.items()})
