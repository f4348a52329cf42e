"""Networks with part of their singular values removed (METHOD 4.5)."""

import math
from collections.abc import Mapping, Sequence

from torch import Tensor

from models.matrices import Matrix
from tasks.decomposition import Factors

KEPT = ("top", "bottom")


def keep_halves(
    weights: Mapping[str, Tensor],
    matrices: Sequence[Matrix],
    factors: Mapping[str, Factors],
    fraction: float = 0.5,
) -> dict[str, dict[str, Tensor]]:
    """Weights with only the top, and only the bottom, singular values of every matrix but the last.

    `top` keeps the first ceil(fraction * R) components, `bottom` the others, as W - top. All other tensors are shared.
    """
    kept: dict[str, dict[str, Tensor]] = {part: dict(weights) for part in KEPT}
    for matrix in matrices[:-1]:
        parameter = weights[matrix.parameter]
        f = factors[matrix.name]
        rank = f.s.shape[-1]
        k = math.ceil(fraction * rank)
        top_MN = (f.left[:, :k] * f.s[:k]) @ f.right[:, :k].mT
        # Where all components are kept the parameter itself leaves no rounding residue to `bottom`.
        top = parameter if k == rank else _as_parameter(top_MN, parameter, matrix.transposed)
        kept["top"][matrix.parameter] = top
        kept["bottom"][matrix.parameter] = parameter - top
    return kept


def _as_parameter(w_MN: Tensor, parameter: Tensor, transposed: bool) -> Tensor:
    """The matrix back in the parameter's own shape."""
    if not transposed:
        return w_MN.view_as(parameter)
    return w_MN.view(parameter.transpose(0, 1).shape).transpose(0, 1)
