"""Metrics with only the top half of the singular values of one layer, for each layer in turn (CLAIMS 5.14).

Shows which layers can be pruned, including the last. Takes one evaluation of the network per layer and checkpoint.
"""

import numpy as np

from specdyn.storage.schema import Variable
from specdyn.tasks.spectra.analysis import Analysis, CheckpointView, Values


def compute(view: CheckpointView) -> Values:
    """Every metric for each layer on every split; BatchNorm is re-estimated."""
    from specdyn.tasks.spectra.truncation import keep_in, top

    now, half = view.now, top(0.5)
    measured = [
        view.evaluate(keep_in([layer], now.weights, now.factors, half), renormalise=True) for layer in view.layers
    ]
    return {f"layer_pruned_{name}": np.stack([values[name] for values in measured]) for name in measured[0]}


ANALYSIS = Analysis(
    name="pruning_by_layer",
    version=1,
    of="checkpoint",
    needs_data=True,
    default=False,
    variables={
        "layer_pruned_{metric}": Variable(
            dims=("layer", "split", "step"),
            long_name="{metric} with half of the singular values of this layer",
            about="the first ceil(R / 2) of this layer kept, all others whole; CLAIMS 5.14, arXiv 2604.22778",
        ),
    },
    compute=compute,
)
