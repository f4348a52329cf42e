"""Product of the layers' largest singular values, a bound on a chain's gain (CLAIMS 5.2)."""

import math

from specdyn.storage.schema import Variable
from specdyn.tasks.spectra.analysis import Analysis, CheckpointView, Values


def compute(view: CheckpointView) -> Values:
    """Sum of log s_1 over all layers; NaN if a layer is zero."""
    largest = [float(view.now.factors[layer.name].s[0]) for layer in view.layers]
    return {"log_norm_product": sum(map(math.log, largest)) if min(largest) > 0 else math.nan}


ANALYSIS = Analysis(
    name="norm_product",
    version=1,
    of="checkpoint",
    needs_vectors=False,
    variables={
        "log_norm_product": Variable(
            dims=("step",),
            long_name="logarithm of the product of the largest singular values",
            about="sum over layers of log s_1, natural logarithm; NaN where a layer is zero; CLAIMS 5.2",
        ),
    },
    compute=compute,
)
