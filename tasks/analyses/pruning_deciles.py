"""Metrics with one tenth of every layer's singular values removed (CLAIMS 5.14)."""

import numpy as np

from specdyn.storage.schema import Variable
from specdyn.tasks.spectra.analysis import Analysis, CheckpointView, Values

DECILES = tuple(range(1, 11))


def compute(view: CheckpointView) -> Values:
    """Every metric without each tenth on every split; the last layer is not pruned, BatchNorm is re-estimated."""
    from specdyn.tasks.spectra.truncation import keep_in_all, without

    now = view.now
    measured = [
        view.evaluate(keep_in_all(now.weights, view.layers, now.factors, without((d - 1) / 10, d / 10)), True)
        for d in DECILES
    ]
    return {f"decile_{name}": np.stack([values[name] for values in measured]) for name in measured[0]}


ANALYSIS = Analysis(
    name="pruning_deciles",
    version=1,
    of="checkpoint",
    needs_data=True,
    default=False,
    variables={
        "decile_{metric}": Variable(
            dims=("decile", "split", "step"),
            long_name="{metric} without a tenth of the singular values",
            about="components round((d - 1) R / 10) to round(d R / 10) of each layer but the last removed; CLAIMS 5.14",
        ),
    },
    compute=compute,
    labels={"decile": DECILES},
)
