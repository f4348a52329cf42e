"""Metrics and spectra of any weights of one network on one set of data.

Shapes: L layers, R the largest rank, K kept parts (all, top, bottom), S splits.
"""

import functools
import hashlib
from collections.abc import Mapping

import numpy as np
from torch import Tensor, nn

from specdyn.models.experiments.base import experiment_of
from specdyn.models.spec.run_spec import RunSpec
from specdyn.storage.places import Store
from specdyn.tasks.analyses.effective_rank import effective_ranks
from specdyn.tasks.connect.factors import Decomposer
from specdyn.tasks.evaluation.environment import pick_device
from specdyn.tasks.evaluation.evaluator import Evaluator
from specdyn.tasks.evaluation.examples import ExamplesKey, examples_key, load_examples
from specdyn.tasks.spectra.decomposition import Factors
from specdyn.tasks.spectra.network_layout import network_layout
from specdyn.tasks.spectra.truncation import of_halves


def data_key(spec: RunSpec, store: Store) -> str:
    """Hash of the examples of both splits and of how they are evaluated; runs with equal hashes share measured ends."""
    found = _data_hash(examples_key(spec, store))
    evaluated = f"{found}/{spec.record.eval_batch_size}/{spec.record.eval_examples}"
    return hashlib.sha256(evaluated.encode()).hexdigest()[:12]


@functools.lru_cache(maxsize=64)
def _data_hash(of: ExamplesKey) -> str:
    digest = hashlib.sha256()
    for split, examples in load_examples(of.spec, of.store).items():
        digest.update(split.encode())
        for tensor in (examples.inputs, examples.targets):
            digest.update(np.ascontiguousarray(tensor.numpy()).data)
    return digest.hexdigest()


STORED = "stored_"
"""Prefix of metrics that use the stored statistics of BatchNorm."""


class Meter:
    """Measures any weights of one network on one set of data; counts its evaluations of a split and decompositions."""

    def __init__(self, spec: RunSpec, store: Store) -> None:
        experiment = experiment_of(spec)
        self.net, self.names = experiment.net(spec), tuple(experiment.metrics(spec))
        self.layers = network_layout(spec).layers
        data = load_examples(spec, store)
        self._splits = len(data)
        self._evaluate = Evaluator(experiment, spec, self.net, data, pick_device())
        self.normalised = has_statistics(self.net)
        self.evaluations, self.decomposer = 0, Decomposer(self.layers)

    def metrics(self, weights: Mapping[str, Tensor], renewed: bool = True) -> dict[str, np.ndarray]:
        """Each metric over the splits (S,), with BatchNorm's statistics re-estimated or interpolated."""
        self.evaluations += self._splits
        return self._evaluate(weights, renormalise=renewed)

    @property
    def decompositions(self) -> int:
        """Decompositions of layers so far."""
        return self.decomposer.made

    def point(self, weights: Mapping[str, Tensor], factors: Mapping[str, Factors]) -> dict[str, np.ndarray]:
        """Metrics (K, S), the same with stored statistics (S,), effective ranks (L,) and singular values (L, R)."""
        measured = [self.metrics(weights), *of_halves(self.metrics, weights, self.layers, factors)]
        values = {name: np.stack([one[name] for one in measured]) for name in measured[0]}
        if self.normalised:
            values |= {f"{STORED}{name}": value for name, value in self.metrics(weights, renewed=False).items()}
        spectra = [factors[layer.name].s.numpy() for layer in self.layers]
        return {
            **values,
            "effective_rank": np.array([effective_ranks(s)[0] for s in spectra], np.float32),
            "singular_value": padded(spectra),
        }


def has_statistics(net: nn.Module) -> bool:
    """Whether the network has layers that store statistics of the data."""
    norms = (nn.modules.batchnorm._BatchNorm, nn.modules.instancenorm._InstanceNorm)
    return any(isinstance(module, norms) for module in net.modules())


def padded(rows: list[np.ndarray]) -> np.ndarray:
    """Rows of any length as one array, padded with NaN."""
    whole = np.full((len(rows), max(map(len, rows))), np.nan, np.float32)
    for row, values in zip(whole, rows, strict=True):
        row[: len(values)] = values
    return whole
