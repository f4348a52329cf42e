"""Stores of very many runs that are trained and analysed, made of one that is: each has a copy of what that one has."""

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
"""A run of a second, with three checkpoints."""


def seeds_of(spec: RunSpec, count: int) -> list[RunSpec]:
    """A run at that many seeds."""
    return [dataclasses.replace(spec, seed=seed) for seed in range(count)]


def put_copies(model: RunSpec, specs: Sequence[RunSpec], store: Store) -> None:
    """Have the store say that these runs are trained and analysed, with the values of a model that really is.

    Their checkpoints are not put: only their manifests know of them.
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
