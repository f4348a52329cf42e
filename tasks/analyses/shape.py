"""Shape of every layer's spectrum: how many values matter, and how unequal they are (CLAIMS 5.1, 5.3)."""

import math

import numpy as np

from specdyn.storage.schema import COUNT, Variable
from specdyn.tasks.spectra.analysis import Analysis, LayerView, Values
from specdyn.tasks.spectra.spectral import (
    FRACTIONS,
    energy_ranks,
    entropy,
    gini,
    participation_ratio,
    stable_rank,
    svd_entropy,
    top_half_energy,
)


def shape(s_R: np.ndarray) -> dict[str, float | np.ndarray]:
    """All numbers of a descending float64 spectrum, all independent of its scale; NaN for a zero matrix."""
    participation = participation_ratio(s_R)
    return {
        "entropy": entropy(s_R),
        "svd_entropy": svd_entropy(s_R),
        "renyi_entropy": math.log(participation),
        "stable_rank": stable_rank(s_R),
        "participation_ratio": participation,
        "energy_rank": energy_ranks(s_R),
        "gini": gini(s_R),
        "top_half_energy": top_half_energy(s_R),
    }


def compute(view: LayerView) -> Values:
    """The numbers of one layer."""
    return shape(view.factors.s.double().numpy())


ANALYSIS = Analysis(
    name="shape",
    version=1,
    of="layer",
    needs_vectors=False,
    variables={
        "entropy": Variable(
            dims=("layer", "step"),
            long_name="entropy of the singular values",
            units="nat",
            about="-sum p log p with p = s / sum s; CLAIMS 5.1",
        ),
        "svd_entropy": Variable(
            dims=("layer", "step"),
            long_name="entropy of the energies / log rank",
            about="-sum q log q / log R with q = s^2 / sum s^2; NaN for R = 1; CLAIMS 5.3",
        ),
        "renyi_entropy": Variable(
            dims=("layer", "step"),
            long_name="Renyi-2 entropy of the energies",
            units="nat",
            about="-log sum q^2 with q = s^2 / sum s^2, the log of the participation ratio; CLAIMS 5.3",
        ),
        "stable_rank": Variable(
            dims=("layer", "step"), long_name="stable rank", about="sum s^2 / s_1^2, NaN for a zero matrix; CLAIMS 5.1"
        ),
        "participation_ratio": Variable(
            dims=("layer", "step"),
            long_name="participation ratio of the energies",
            about="(sum s^2)^2 / sum s^4; CLAIMS 5.1",
        ),
        "energy_rank": Variable(
            dims=("layer", "step", "fraction"),
            long_name="singular values that hold a share of the energy",
            dtype=COUNT,
            about="smallest k with sum_{i<=k} s_i^2 >= q sum s^2; CLAIMS 5.1",
        ),
        "gini": Variable(
            dims=("layer", "step"),
            long_name="Gini coefficient of the singular values",
            about="sum_ij |s_i - s_j| / (2 R^2 mean s); METHOD 5",
        ),
        "top_half_energy": Variable(
            dims=("layer", "step"),
            long_name="energy of the top half of the singular values",
            about="sum_{i<=ceil(R/2)} s_i^2 / sum s^2; CLAIMS 2.7",
        ),
    },
    compute=compute,
    labels={"fraction": FRACTIONS},
)
