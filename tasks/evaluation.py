"""Metrics of a network on the splits of its data (METHOD 4.1)."""

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn

from models.experiment import Examples, Experiment
from models.run_spec import RunSpec


class Evaluator:
    """Evaluates weights on all splits of a spec's data, which stays on the device."""

    def __init__(
        self, experiment: Experiment, spec: RunSpec, net: nn.Module, data: Mapping[str, Examples], device: torch.device
    ) -> None:
        self._net = net.to(device).eval()
        self._data = {split: examples.to(device) for split, examples in data.items()}
        self._metrics = experiment.metrics(spec)
        self._batch = spec.eval_batch_size

    @torch.no_grad()
    def __call__(self, weights: Mapping[str, Tensor]) -> dict[str, np.ndarray]:
        """Each metric as an array over the splits: the unweighted mean of the means of the batches.

        The last, smaller batch counts fully, as published. Evaluated in float32 and eval mode.
        """
        self._net.load_state_dict(dict(weights))
        rows = [self._split(examples) for examples in self._data.values()]
        return {name: np.array([row[name] for row in rows], dtype=np.float32) for name in self._metrics}

    def _split(self, examples: Examples) -> dict[str, float]:
        values: dict[str, list[Tensor]] = {name: [] for name in self._metrics}
        for inputs, targets in zip(*(part.split(self._batch) for part in examples), strict=True):
            outputs = self._net(inputs)
            for name, metric in self._metrics.items():
                values[name].append(metric.of(outputs, targets))
        return {name: float(torch.stack(of_batches).mean()) for name, of_batches in values.items()}
