"""Metrics with only the top, or only the bottom, half of every layer's singular values (METHOD 4.5)."""

from functools import partial

import numpy as np

from specdyn.storage.schema import Variable
from specdyn.tasks.spectra.analysis import Analysis, CheckpointView, Values

KEPT = ("top", "bottom")


def compute(view: CheckpointView) -> Values:
    """Every metric for both halves on every split; the last layer is not pruned, BatchNorm is re-estimated."""
    from specdyn.tasks.spectra.truncation import of_halves

    now = view.now
    measured = of_halves(partial(view.evaluate, renormalise=True), now.weights, view.layers, now.factors)
    return {f"pruned_{name}": np.stack([values[name] for values in measured]) for name in measured[0]}


ANALYSIS = Analysis(
    name="pruning",
    version=1,
    of="checkpoint",
    needs_data=True,
    variables={
        "pruned_{metric}": Variable(
            dims=("kept", "split", "step"),
            long_name="{metric} with half of the singular values",
            about="top keeps the first ceil(R / 2) of every layer but the last, bottom the others; METHOD 4.5",
        ),
    },
    compute=compute,
    labels={"kept": KEPT},
)
