"""Metrics with only the top, or only the bottom, half of every layer's singular values (METHOD 4.5)."""

import numpy as np

from storage.schema import Variable
from tasks.analysis import Analysis, CheckpointView
from tasks.masking import keep_halves


def compute(view: CheckpointView) -> dict[str, np.ndarray]:
    """Every metric of the experiment for both halves on every split; the last layer is left whole."""
    halves = keep_halves(view.weights, view.layers, view.factors)
    measured = [view.evaluate(weights) for weights in halves.values()]
    return {f"pruned_{name}": np.stack([values[name] for values in measured]) for name in measured[0]}


ANALYSIS = Analysis(
    name="pruning",
    version=1,
    variables={
        "pruned_{metric}": Variable(
            dims=("kept", "split", "step"),
            long_name="{metric} with half of the singular values",
            about="top keeps the first ceil(R / 2) of every layer but the last, bottom the others; no retraining",
        ),
    },
    compute=compute,
)
