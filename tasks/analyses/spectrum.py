"""Singular values of every layer (METHOD 4.2)."""

import numpy as np

from specdyn.storage.schema import Variable
from specdyn.tasks.spectra.analysis import Analysis, LayerView, Values
from specdyn.tasks.spectra.labels import DRIVERS


def compute(view: LayerView) -> Values:
    """Singular values, NaN beyond the layer's rank, and the driver that computed them."""
    return {"singular_value": np.asarray(view.factors.s), "driver": view.factors.driver}


ANALYSIS = Analysis(
    name="spectrum",
    version=1,
    of="layer",
    needs_vectors=False,
    variables={
        "singular_value": Variable(
            dims=("layer", "step", "rank"),
            long_name="singular value",
            chunks={"rank": 16},
            about="s_i of the parameter as a matrix, descending; METHOD 4.2",
        ),
        "driver": Variable(
            dims=("layer", "step"),
            long_name="driver of the decomposition",
            dtype="int8",
            flags=DRIVERS,
            about="how the decomposition was made",
        ),
    },
    compute=compute,
)
