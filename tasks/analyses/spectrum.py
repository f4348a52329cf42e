"""Singular values of every layer (METHOD 4.2)."""

import numpy as np

from storage.schema import Variable
from tasks.analysis import Analysis, CheckpointView
from tasks.decomposition import DRIVERS


def compute(view: CheckpointView) -> dict[str, np.ndarray]:
    """Singular values, NaN beyond a layer's rank, and the driver that gave them."""
    s = view.blank("layer", "rank")
    for i, layer in enumerate(view.layers):
        values = view.factors[layer.name].s.numpy()
        s[i, : len(values)] = values
    drivers = [view.factors[layer.name].driver for layer in view.layers]
    return {"singular_value": s, "driver": np.array(drivers, dtype=np.int8)}


ANALYSIS = Analysis(
    name="spectrum",
    version=1,
    variables={
        "singular_value": Variable(
            dims=("layer", "step", "rank"), long_name="singular value", chunks={"rank": 16}, about="METHOD 4.2"
        ),
        "driver": Variable(
            dims=("layer", "step"), long_name="driver of the decomposition", dtype="int8", flags=DRIVERS
        ),
    },
    compute=compute,
)
