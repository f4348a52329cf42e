"""Shape of the spectra of queries, keys and values if one parameter holds all three (arXiv 2604.22778).

Query and key projections change with depth differently from value and output projections. In networks of known
families the three are separate layers; a joint projection of torch's attention is one layer, as in the paper, and is
split here. Takes three decompositions per layer (values only).
"""

import math

import numpy as np

from specdyn.storage.schema import Variable
from specdyn.tasks.spectra.analysis import Analysis, LayerView, Values
from specdyn.tasks.spectra.spectral import effective_rank, stable_rank
from specdyn.tasks.spectra.tails import fit_tail

JOINT = "in_proj_weight"
"""torch's name of the parameter that holds queries, keys and values, in this order."""
PROJECTIONS = ("query", "key", "value")


def compute(view: LayerView) -> Values:
    """The numbers of each projection; empty unless the layer is a joint one."""
    from specdyn.tasks.spectra.decomposition import singular_values

    if view.layer.name.rpartition(".")[2] != JOINT or len(view.w_MN) % len(PROJECTIONS):
        return {}
    spectra = [singular_values(w_MN).numpy() for w_MN in view.w_MN.chunk(len(PROJECTIONS))]
    return {
        "projection_stable_rank": np.array([stable_rank(s_R) for s_R in spectra]),
        "projection_effective_rank": np.array([effective_rank(s_R) if s_R[0] > 0 else math.nan for s_R in spectra]),
        "projection_power_law_alpha": np.array([fit_tail(s_R).alpha for s_R in spectra]),
    }


ANALYSIS = Analysis(
    name="projections",
    version=1,
    of="layer",
    needs_vectors=False,
    default=False,
    variables={
        "projection_stable_rank": Variable(
            dims=("layer", "step", "projection"),
            long_name="stable rank of a projection",
            about="sum s^2 / s_1^2 of the rows of queries, keys or values, NaN for zeros; CLAIMS 5.1",
        ),
        "projection_effective_rank": Variable(
            dims=("layer", "step", "projection"),
            long_name="effective rank of a projection / rank",
            about="exp(-sum p log p) / R of the rows of queries, keys or values, p = s / sum s; CLAIMS 5.1",
        ),
        "projection_power_law_alpha": Variable(
            dims=("layer", "step", "projection"),
            long_name="power-law exponent of a projection",
            about="1 + n / sum log(l_i / xmin) of the rows of queries, keys or values, as power_law_alpha; CLAIMS 5.6",
        ),
    },
    compute=compute,
    labels={"projection": PROJECTIONS},
)
