"""Metrics of a network on the splits of its data (METHOD 4.1)."""

from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager

import numpy as np
import torch
from torch import Tensor, nn

from specdyn.models import generators
from specdyn.models.datasets.decoders.examples import Examples
from specdyn.models.experiments.base import Experiment, Metric
from specdyn.models.spec.run_spec import RunSpec
from specdyn.tasks.evaluation.representations import Moments, moments

EVALUATION_SEED = 20_000
"""Seed of random draws in metrics, the same for every checkpoint and variant."""


class Evaluator:
    """Evaluates weights on all splits of a spec's data, which stays on the device."""

    def __init__(
        self, experiment: Experiment, spec: RunSpec, net: nn.Module, data: Mapping[str, Examples], device: torch.device
    ) -> None:
        self._device = device
        self._net = net.to(device).eval()
        self._data = {split: examples.to(device) for split, examples in data.items()}
        self._train = self._data.get("train")
        if self._train is not None and spec.record.eval_examples is not None:
            self._data["train"] = self._train.take(train_subset(len(self._train.targets), spec.record.eval_examples))
        self._metrics = experiment.metrics(spec)
        self._batch = spec.record.eval_batch_size

    @torch.no_grad()
    def __call__(self, weights: Mapping[str, Tensor], renormalise: bool = False) -> dict[str, np.ndarray]:
        """Each metric as an array over the splits: the unweighted mean of the means of the batches.

        A smaller last batch counts fully, as published; pooled metrics are a sum over a count. Evaluated in float32
        and eval mode. With `renormalise`, BatchNorm's statistics are first re-estimated on the training set.
        """
        self._net.load_state_dict(dict(weights))
        if renormalise and self._train is not None:
            with self._same_noise():
                estimate_batch_norm(self._net, (batch.inputs for batch in self._train.batches(self._batch)))
        rows = [self._split(examples) for examples in self._data.values()]
        return {name: np.array([row[name] for row in rows], dtype=np.float32) for name in self._metrics}

    def represent(self, weights: Mapping[str, Tensor]) -> dict[str, Moments]:
        """Moments of each layer's inputs on the validation examples, by parameter; one forward pass per batch."""
        self._net.load_state_dict(dict(weights))
        with self._same_noise():
            return moments(self._net, self._data["val"].batches(self._batch), weights)

    def _split(self, examples: Examples) -> dict[str, float]:
        values: dict[str, list[Tensor]] = {name: [] for name in self._metrics}
        with self._same_noise():
            for batch in examples.batches(self._batch):
                outputs = self._net(batch.inputs)
                for name, metric in self._metrics.items():
                    values[name].append(metric.of(outputs, batch))
        return {name: _reduce(metric, values[name]) for name, metric in self._metrics.items()}

    def _same_noise(self) -> AbstractContextManager[None]:
        """Draw the same numbers at every call, without changing torch's generators."""
        return generators.kept(self._device, EVALUATION_SEED)


def _reduce(metric: Metric, of_batches: list[Tensor]) -> float:
    if not metric.pooled:
        return float(torch.stack(of_batches).mean())
    total, count = torch.stack(of_batches).double().sum(0)
    return float(total / count)


def train_subset(examples: int, count: int) -> Tensor:
    """Indices of the training examples used for metrics, if not all (METHOD 4.1)."""
    return torch.from_numpy(np.random.default_rng(12345).permutation(examples)[:count])


def estimate_batch_norm(net: nn.Module, batches: Iterable[Tensor]) -> None:
    """Re-estimate the running statistics of BatchNorm, every batch with equal weight (METHOD 4.6).

    Does nothing without BatchNorm.
    """
    norms = [module for module in net.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    if not norms:
        return
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # a cumulative average
    training = net.training
    net.train()
    for inputs in batches:
        net(inputs)
    net.train(training)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
