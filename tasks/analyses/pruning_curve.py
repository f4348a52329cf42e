"""Metrics with a growing share of the singular values kept, chosen in five ways (CLAIMS 2.7, 5.14)."""

import numpy as np

from specdyn.storage.schema import Variable
from specdyn.tasks.spectra.analysis import Analysis, CheckpointView, Values
from specdyn.tasks.spectra.truncation import (
    bottom,
    energy_matched,
    keep_in_all,
    random_components,
    random_directions,
    top,
)

SHARES = (0.1, 0.25, 0.5, 0.75, 0.9)
WAYS = {
    "top": top,
    "bottom": lambda share: bottom(1 - share),
    "random": random_components,
    "random_directions": random_directions,
    "energy_matched": energy_matched,
}


def compute(view: CheckpointView) -> Values:
    """Every metric for each way and share on every split; the last layer is left whole, BatchNorm estimated anew."""
    now = view.now
    measured = [
        [view.evaluate(keep_in_all(now.weights, view.layers, now.factors, way(share)), True) for share in SHARES]
        for way in WAYS.values()
    ]
    return {
        f"curve_{name}": np.array([[values[name] for values in of_way] for of_way in measured])
        for name in measured[0][0]
    }


ANALYSIS = Analysis(
    name="pruning_curve",
    version=1,
    of="checkpoint",
    needs_data=True,
    default=False,
    variables={
        "curve_{metric}": Variable(
            dims=("way", "share", "split", "step"),
            long_name="{metric} with a share of the singular values",
            about="of every layer but the last: the first ceil(share R) components, the others than the first "
            "ceil((1 - share) R), random ones, a projection on random directions, or random ones scaled to the "
            "norm of the first; CLAIMS 5.14",
        ),
    },
    compute=compute,
    labels={"way": tuple(WAYS), "share": SHARES},
)
