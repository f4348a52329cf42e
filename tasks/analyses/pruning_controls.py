"""Metrics with half of the singular values chosen at random, as a control for pruning the bottom half.

Two of the twenty-five evaluations of `pruning_curve`, for when that costs too much (CLAIMS 2.7, 5.14).
"""

from collections.abc import Callable

import numpy as np

from specdyn.storage.schema import Variable
from specdyn.tasks.spectra.analysis import Analysis, CheckpointView, Values

SHARE = 0.5
CONTROLS = ("random", "energy_matched")


def compute(view: CheckpointView) -> Values:
    """Every metric for both controls on every split; the last layer is not pruned, BatchNorm is re-estimated."""
    from specdyn.tasks.spectra import truncation

    ways: dict[str, Callable[[float], truncation.Keep]] = {
        "random": truncation.random_components,
        "energy_matched": truncation.energy_matched,
    }
    now = view.now
    measured = [
        view.evaluate(truncation.keep_in_all(now.weights, view.layers, now.factors, ways[way](SHARE)), renormalise=True)
        for way in CONTROLS
    ]
    return {f"control_{name}": np.stack([values[name] for values in measured]) for name in measured[0]}


ANALYSIS = Analysis(
    name="pruning_controls",
    version=1,
    of="checkpoint",
    needs_data=True,
    default=False,
    variables={
        "control_{metric}": Variable(
            dims=("control", "split", "step"),
            long_name="{metric} with a random half of the singular values",
            about="of every layer but the last: ceil(R / 2) random components, or these scaled to the norm of the "
            "first half; CLAIMS 5.14",
        ),
    },
    compute=compute,
    labels={"control": CONTROLS},
)
