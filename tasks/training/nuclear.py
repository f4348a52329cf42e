"""Decay of the nuclear norm: every singular value of a matrix shrinks by the same amount, down to zero.

Li's Low-Rank Decay (arXiv 2606.04405), decoupled from the gradient as in AdamW: W - eta lambda U V', implemented as the
proximal step of eta lambda ||W||_*, U max(S - eta lambda, 0) V'. The two are equal where s > eta lambda; a smaller
value becomes 0, whereas the subgradient step would make it negative and is undefined at 0.

Shapes: M rows, N columns, R = min(M, N). For each matrix an update takes one eigendecomposition of an R x R Gram matrix
in float64 and three products: about 10 R^3 + 6 M N R operations, which for wide layers is more than the update itself.
"""

import torch
from torch import Tensor, nn

from specdyn.models.nets.matrices import layers
from specdyn.tasks.spectra.truncation import as_parameter


def shrunk(w_MN: Tensor, amount: float) -> Tensor:
    """U max(S - amount, 0) V' of a matrix U S V', in its dtype; values below 1e-8 s_1 count as 0.

    A matrix with NaN or infinity is left unchanged: its run has diverged, which is reported elsewhere.
    """
    if not bool(torch.isfinite(w_MN).all()):
        return w_MN
    tall_MN = w_MN.double() if w_MN.shape[0] >= w_MN.shape[1] else w_MN.double().mT
    energies, right = torch.linalg.eigh(tall_MN.mT @ tall_MN)
    s = energies.clamp_min(0).sqrt()
    share = torch.where(s > amount, 1 - amount / s, 0.0)
    small_MN = (tall_MN @ (right * share)) @ right.mT
    return (small_MN if w_MN.shape[0] >= w_MN.shape[1] else small_MN.mT).to(w_MN.dtype)


class NuclearDecay:
    """Shrinks the singular values of some of a network's matrices, reshaped as for analysis.

    A convolution is the matrix (out, in * kernel), a joint projection of queries, keys and values one matrix.
    """

    def __init__(self, net: nn.Module, names: set[str]) -> None:
        self._matrices = [(net.get_parameter(of.parameter), of) for of in layers(net) if of.parameter in names]

    @torch.no_grad()
    def __call__(self, amount: float) -> None:
        """Shrink by that amount, the learning rate times the weight decay; does nothing if it is 0."""
        for parameter, matrix in self._matrices if amount else ():
            small_MN = shrunk(matrix.of({matrix.parameter: parameter}), amount)
            parameter.copy_(as_parameter(small_MN, parameter, matrix.transposed))
