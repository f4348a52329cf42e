"""Factors of checkpoints shared by several measurements: computed once, kept in the store meanwhile."""

from collections.abc import Collection, Mapping, Sequence

from torch import Tensor

from specdyn.models.nets.matrices import Matrix
from specdyn.storage.access import objects
from specdyn.storage.checkpoints import Manifest, read_finished, read_manifest
from specdyn.storage.identity import short_digest
from specdyn.storage.places import Store
from specdyn.storage.scratch import share, shared
from specdyn.tasks.spectra.decomposition import Factors, decompose

VERSION = 1
"""Increase when factors are computed differently."""


def finished_run(experiment: str, run_id: str, store: Store) -> Manifest:
    """The manifest of a finished run; ValueError if it is not finished."""
    manifest = read_manifest(store.run(experiment, run_id))
    if manifest is None or manifest.status != "complete":
        raise ValueError(f"run {run_id} of {experiment} is not finished in {store}: train it first")
    return manifest


class Decomposer:
    """Decomposes layers and counts decompositions."""

    def __init__(self, layers: Sequence[Matrix]) -> None:
        self.layers, self.made = tuple(layers), 0

    def factors(self, weights: Mapping[str, Tensor], what: str) -> dict[str, Factors]:
        """The factors of every layer."""
        self.made += len(self.layers)
        return {layer.name: decompose(layer.of(weights), f"{what} layer {layer.name}") for layer in self.layers}

    def shared(self, store: Store, manifest: Manifest, step: int) -> dict[str, Factors]:
        """The shared factors of a checkpoint of a finished run; computes and stores them if they are missing.

        Computing them twice concurrently is harmless.
        """
        url = self._place(store, manifest, step)
        if (kept := shared(url, Factors)) is not None:
            return kept
        made = self.factors(read_finished(store, manifest, step), f"run {manifest.run_id} step {step}")
        share(url, made)
        return made

    def _place(self, store: Store, manifest: Manifest, step: int) -> str:
        """URL of the shared factors, named by the run and by a digest of weights and layers."""
        weights = next(entry.sha256 for entry in manifest.checkpoints if entry.step == step)
        decided = short_digest(weights, [layer.name for layer in self.layers], VERSION)
        return f"{store.scratch}/{_prefix(manifest.experiment, manifest.run_id)}{decided}.safetensors"


def forget_factors(store: Store, experiment: str, run_ids: Collection[str]) -> None:
    """Remove the stored factors of runs; another call that still needs them computes them again."""
    prefixes = tuple(_prefix(experiment, run_id) for run_id in run_ids)
    if prefixes and (kept := [name for name in objects.names(store.scratch) if name.startswith(prefixes)]):
        folder = store.scratch.removeprefix(f"{store}/")
        objects.delete_all(store.url, [f"{folder}/{name}" for name in kept])  # also removes a local folder left empty


def _prefix(experiment: str, run_id: str) -> str:
    return f"{experiment}-{run_id}-"
