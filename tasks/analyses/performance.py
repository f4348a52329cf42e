"""Metrics of the network as it was saved (METHOD 4.1)."""

import numpy as np

from storage.schema import Variable
from tasks.analysis import Analysis, CheckpointView


def compute(view: CheckpointView) -> dict[str, np.ndarray]:
    """Every metric of the experiment on every split."""
    return view.evaluate(view.weights)


ANALYSIS = Analysis(
    name="performance",
    version=1,
    variables={
        "{metric}": Variable(dims=("split", "step"), long_name="{metric}", about="unweighted mean over batches"),
    },
    compute=compute,
)
