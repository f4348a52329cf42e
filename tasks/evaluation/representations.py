"""Sums over the inputs of a network's layers on the examples of a split, from which covariances follow.

Shapes: B batch, D width of a representation, n rows.
"""

from collections.abc import Iterable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from specdyn.models.datasets.decoders.examples import Examples

WIDEST = 2048
"""Widest representation that is recorded."""
SLAB = 8192
"""Rows processed in float64 at a time."""


class Moments(NamedTuple):
    """Sums over the rows z of a representation, in float64 on the CPU."""

    rows: int
    sum_D: Tensor
    gram_DD: Tensor
    """Sum of z z'."""


def moments(net: nn.Module, batches: Iterable[Examples], parameters: Iterable[str]) -> dict[str, Moments]:
    """Moments of the inputs of each linear or convolutional layer whose weight is among these parameters.

    A row is an example, a position of a sequence within its length, or the mean over the pixels of a feature map. Takes
    one forward pass per batch, in the network's present mode and with its present weights. Leaves out parameters whose
    layer is not called with its input, as in an LSTM or a joint projection, and inputs wider than 2048.
    """
    found: dict[str, tuple[int, Tensor, Tensor]] = {}
    lengths: list[Tensor | None] = [None]

    def watch(name: str, module: nn.Module, x: Tensor) -> None:
        rows_nD = rows_of(module, x, lengths[0])
        width = rows_nD.shape[1]
        if width > WIDEST:
            return
        zero = (0, torch.zeros(width, dtype=torch.float64), torch.zeros(width, width, dtype=torch.float64))
        count, sum_D, gram_DD = found.setdefault(name, zero)
        for slab in rows_nD.split(SLAB):
            exact = slab.double()
            sum_D += exact.sum(0).cpu()
            gram_DD += (exact.mT @ exact).cpu()
        found[name] = count + len(rows_nD), sum_D, gram_DD

    hooks = [
        module.register_forward_pre_hook(lambda of, given, name=name: watch(name, of, given[0]))
        for name in parameters
        if (module := layer_of(net, name)) is not None
    ]
    try:
        with torch.no_grad():
            for batch in batches:
                lengths[0] = batch.lengths
                net(batch.inputs)
    finally:
        for hook in hooks:
            hook.remove()
    return {name: Moments(*of) for name, of in found.items()}


def layer_of(net: nn.Module, parameter: str) -> nn.Module | None:
    """The linear or convolutional layer whose weight is this parameter."""
    path, _, name = parameter.rpartition(".")
    module = net.get_submodule(path)
    kinds = (nn.Linear, nn.modules.conv._ConvNd)
    return module if name == "weight" and isinstance(module, kinds) else None


def rows_of(module: nn.Module, x: Tensor, lengths: Tensor | None) -> Tensor:
    """The rows (n, D) of an input: (B, D), (B, T, D) with lengths (B,), or for a convolution (B, D, ...)."""
    if isinstance(module, nn.modules.conv._ConvNd):
        return x.flatten(2).mean(2)
    if lengths is not None and x.ndim == 3:
        within = torch.arange(x.shape[1], device=x.device) < lengths[:, None]
        return x[within]
    return x.reshape(-1, x.shape[-1])
