"""From a network's parameters to named matrices, and the pairs of layers that feed one another.

Shapes: M rows (output directions), N columns (input directions), H heads.
"""

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from torch import Tensor, nn

Vectors = Literal["left", "right"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Matrix:
    """A named matrix of a network: the parameter it lies in and the way it is made a matrix."""

    parameter: str
    transposed: bool = False
    """Swap the first two axes before flattening (transposed convolutions, METHOD 0)."""
    part: str = ""
    """Name of the block of rows taken, empty for the whole parameter."""
    rows: tuple[int, int] | None = None
    heads: int = 0
    """Split the rows into that many blocks, decomposed as a stack; 0 is no split."""

    @property
    def name(self) -> str:
        """The parameter's name, with the part in brackets."""
        return f"{self.parameter}[{self.part}]" if self.part else self.parameter

    def of(self, weights: Mapping[str, Tensor]) -> Tensor:
        """The matrix (M, N), or the stack (H, M/H, N), as a view of the weights where possible."""
        w = weights[self.parameter]
        w_MN = (w.transpose(0, 1) if self.transposed else w).flatten(1)
        if self.rows is not None:
            w_MN = w_MN[self.rows[0] : self.rows[1]]
        return w_MN.unflatten(0, (self.heads, -1)) if self.heads else w_MN


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerPair:
    """Two matrices compared by |reader vectors . writer vectors|: what one writes, the other reads."""

    writer: Matrix
    reader: Matrix
    writer_vectors: Vectors = "left"
    reader_vectors: Vectors = "right"

    @property
    def name(self) -> str:
        """Names of writer and reader, in the order of the data's way."""
        return f"{self.writer.name} -> {self.reader.name}"


def layers(net: nn.Module) -> tuple[Matrix, ...]:
    """Every parameter of two or more dimensions, in registration order (METHOD 0)."""
    swapped = {
        f"{name}.weight"
        for name, module in net.named_modules()
        if isinstance(module, nn.ConvTranspose1d | nn.ConvTranspose2d | nn.ConvTranspose3d)
    }
    return tuple(
        Matrix(parameter=name, transposed=name in swapped)
        for name, parameter in net.named_parameters()
        if parameter.ndim >= 2
    )


def consecutive_pairs(matrices: tuple[Matrix, ...]) -> tuple[LayerPair, ...]:
    """Each layer paired with the next: the pairs of a plain chain of layers."""
    return tuple(LayerPair(writer=a, reader=b) for a, b in itertools.pairwise(matrices))


def rank_limit(matrices: tuple[Matrix, ...], net: nn.Module) -> int:
    """The largest number of singular values among the matrices."""
    weights = dict(net.named_parameters())
    return max(min(matrix.of(weights).shape[-2:]) for matrix in matrices)


def state_bytes(net: nn.Module) -> int:
    """Bytes of one checkpoint's tensors: parameters and persistent buffers."""
    return sum(tensor.numel() * tensor.element_size() for tensor in net.state_dict().values())
