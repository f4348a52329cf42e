"""Spectra of each layer's inputs on the validation examples: RankMe and alpha-ReQ (CLAIMS 5.13).

RankMe (arXiv 2210.02885) and alpha-ReQ, tracked through training as in arXiv 2509.23024. The inputs of the last layer
are the network's features. A row is an example, a position of a sequence, or the mean over a feature map's pixels.
Layers whose input is not that of a module (joint projections of queries, keys and values, LSTMs) and inputs wider than
2048 have no value. A checkpoint takes one pass over the validation examples, and per layer two eigendecompositions of
matrices as wide as its input.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from specdyn.storage.schema import COUNT, Variable
from specdyn.tasks.spectra.analysis import Analysis, CheckpointView, Values
from specdyn.tasks.spectra.spectral import entropy

if TYPE_CHECKING:
    from specdyn.tasks.evaluation.representations import Moments

NOISE = 1e-10
"""Share of the largest eigenvalue of a covariance below which an eigenvalue is rounding noise."""
FEWEST = 10
"""Fewest eigenvalues for a slope."""
HELD = 0.99
"""Share of the variance for which components are counted."""


def rankme(gram_DD: np.ndarray) -> float:
    """exp(-sum p log p), p = s / sum s, s the singular values of rows with this Gram matrix; NaN for zeros."""
    energies_D = np.maximum(np.linalg.eigvalsh(gram_DD), 0)
    # The roots of rounding errors in place of zeros would add up.
    s_D = np.sqrt(np.where(energies_D > 1e-14 * energies_D.max(), energies_D, 0))
    return math.exp(entropy(s_D))


def slope(variances_D: np.ndarray) -> tuple[float, float]:
    """alpha of variances ~ i^-alpha, descending, by least squares of their logarithms, and the R^2 of that line.

    Uses all values above 1e-10 of the first; NaN if there are fewer than 10.
    """
    known_K = variances_D[variances_D > NOISE * variances_D[0]] if variances_D[0] > 0 else variances_D[:0]
    if len(known_K) < FEWEST:
        return math.nan, math.nan
    x_K, y_K = np.log(np.arange(1, len(known_K) + 1)), np.log(known_K)
    x_K, y_K = x_K - x_K.mean(), y_K - y_K.mean()
    fall, spread = -float(x_K @ y_K / (x_K @ x_K)), float(y_K @ y_K)
    return fall, float((x_K @ y_K) ** 2 / (x_K @ x_K) / spread) if spread > 0 else math.nan


def spectra(of: Moments) -> dict[str, float]:
    """The numbers of a representation."""
    gram_DD, mean_D = of.gram_DD.numpy(), of.sum_D.numpy() / of.rows
    covariance_DD = gram_DD / of.rows - np.outer(mean_D, mean_D)
    variances_D = np.maximum(np.linalg.eigvalsh(covariance_DD)[::-1], 0)
    alpha, fit = slope(variances_D)
    total = variances_D.sum()
    components = 1.0 + np.searchsorted(np.cumsum(variances_D), HELD * total * (1 - 1e-12)) if total > 0 else math.nan
    return {
        "representation_rankme": rankme(gram_DD),
        "representation_alpha": alpha,
        "representation_alpha_fit": fit,
        "representation_components": components,
    }


def compute(view: CheckpointView) -> Values:
    """The numbers of every layer whose input is observed; empty if the network has no data."""
    if view.represent is None:
        return {}
    found = {name: spectra(of) for name, of in view.represent(view.now.weights).items()}
    of_layers = [found.get(layer.parameter, {}) for layer in view.layers]
    return {name: np.array([of.get(name, math.nan) for of in of_layers]) for name in ANALYSIS.variables}


ANALYSIS = Analysis(
    name="representations",
    version=1,
    of="checkpoint",
    needs_vectors=False,
    needs_data=True,
    default=False,
    variables={
        "representation_rankme": Variable(
            dims=("layer", "step"),
            long_name="RankMe of what enters the layer",
            about="exp(-sum p log p), p = s / sum s, s the singular values of the rows, not centred; at most their "
            "width; CLAIMS 5.13, arXiv 2210.02885",
        ),
        "representation_alpha": Variable(
            dims=("layer", "step"),
            long_name="alpha-ReQ of what enters the layer",
            about="slope of -log v_i against log i by least squares, v the eigenvalues of the covariance above 1e-10 "
            "v_1; NaN below 10 of them; CLAIMS 5.13, arXiv 2509.23024",
        ),
        "representation_alpha_fit": Variable(
            dims=("layer", "step"),
            long_name="R^2 of the line of alpha-ReQ",
            about="share of the variance of log v_i that the line explains; CLAIMS 5.13",
        ),
        "representation_components": Variable(
            dims=("layer", "step"),
            long_name="components with 99 % of the variance of what enters the layer",
            dtype=COUNT,
            about="smallest k with sum_{i<=k} v_i >= .99 sum v; CLAIMS 5.13",
        ),
    },
    compute=compute,
)
