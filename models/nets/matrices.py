"""Turns parameters into named matrices, and pairs the layers that feed one another (METHOD 0, 4.4).

Shapes: M rows (output directions), N columns (input directions), H heads.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from torch import Tensor, nn

Vectors = Literal["left", "right"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Matrix:
    """A named matrix of a network: its parameter and how it is reshaped to a matrix."""

    parameter: str
    transposed: bool = False
    """Swap the first two axes before flattening: transposed convolutions, and weights stored as (in, out)."""
    part: str = ""
    """Name of the block of rows or columns used, empty for the whole parameter."""
    rows: tuple[int, int] | None = None
    columns: tuple[int, int] | None = None
    every: int = 0
    """Period in rows at which the block repeats, if queries, keys and values are interleaved; 0 for a single block."""
    index: tuple[int, ...] = ()
    """Index along each leading axis: one of several experts, or one head."""
    outputs: tuple[int, ...] = ()
    """The output axes, in order, if not just the first; without the axes of `index`."""
    heads: int = 0
    """Number of blocks to split into, decomposed as a stack; 0 means no split."""
    split: Literal["rows", "columns"] = "rows"
    """The side that the heads divide."""

    @property
    def name(self) -> str:
        """The parameter's name, with the part in brackets."""
        return f"{self.parameter}[{self.part}]" if self.part else self.parameter

    def of(self, weights: Mapping[str, Tensor]) -> Tensor:
        """The matrix (M, N), or the stack (H, M/H, N) or (H, M, N/H), as a view of the weights where possible."""
        w = weights[self.parameter][self.index]
        outputs, inputs = self._axes(w.ndim)
        w_MN = w.permute(*outputs, *inputs).flatten(0, len(outputs) - 1).flatten(1)
        if self.rows is not None:
            start, stop = self.rows
            alike = w_MN.unflatten(0, (-1, self.every or len(w_MN)))
            w_MN = alike[:, start:stop].flatten(0, 1)
        if self.columns is not None:
            w_MN = w_MN[:, self.columns[0] : self.columns[1]]
        if not self.heads:
            return w_MN
        if self.split == "rows":
            return w_MN.unflatten(0, (self.heads, -1))
        return w_MN.unflatten(1, (self.heads, -1)).transpose(0, 1)

    def shape(self, of_parameter: tuple[int, ...]) -> tuple[int, int]:
        """(M, N) of the matrix, or of one head if it is split, without reading the weights."""
        sizes = of_parameter[len(self.index) :]
        m, n = (math.prod(sizes[axis] for axis in axes) for axes in self._axes(len(sizes)))
        if self.rows is not None:
            blocks = m // self.every if self.every else 1
            m = blocks * (self.rows[1] - self.rows[0])
        n = self.columns[1] - self.columns[0] if self.columns else n
        if not self.heads:
            return m, n
        return (m // self.heads, n) if self.split == "rows" else (m, n // self.heads)

    def _axes(self, count: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Output axes and input axes of a tensor with `count` axes."""
        outputs = (1,) if self.transposed else self.outputs or (0,)
        return outputs, tuple(axis for axis in range(count) if axis not in outputs)


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerPair:
    """Two matrices compared by |reader vectors . writer vectors|: what one writes, the other reads.

    Long vectors are split into parts that are compared one by one: a reading convolution's right vectors by kernel
    position, a writing LSTM's left vectors by gate. The parts are not renormalised.
    """

    writer: Matrix
    reader: Matrix
    writer_vectors: Vectors = "left"
    reader_vectors: Vectors = "right"
    positions: int = 1
    """Kernel positions of the reader, the fast axis of its right vectors."""
    gates: int = 1
    """Gates of the writer, the slow axis of its left vectors."""
    shown: int = 0
    """The part that represents the pair: the centre position, or gate g of i, f, g, o."""

    @property
    def name(self) -> str:
        """Names of writer and reader, in the direction of data flow."""
        return f"{self.writer.name} -> {self.reader.name}"

    @property
    def heads(self) -> int:
        """Heads that are compared one by one, 0 for whole matrices; several may read the same head of the writer."""
        return max(self.writer.heads, self.reader.heads)

    @property
    def parts(self) -> int:
        """Number of kernel positions or gates, 1 if whole vectors are compared."""
        return max(self.positions, self.gates)


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """The treatment of a tensor of two or more dimensions: how it is analysed, or why it is skipped."""

    parameter: str
    shape: tuple[int, ...]
    way: str = ""
    """How it is reshaped to a matrix; empty if it is skipped."""
    skipped: str = ""
    """Why it is not analysed; empty if it is."""
    cut: tuple[Matrix, ...] = ()
    """The matrices that it is split into; empty if it is one matrix or skipped."""
    roles: tuple[str, ...] = ()
    """The role of each of its matrices in the network, if known."""
    kinds: tuple[str, ...] = ()
    """The kind of each of its matrices, if known: embedding, attention, mlp, conv, recurrent, output."""

    @property
    def matrices(self) -> tuple[Matrix, ...]:
        """Its analysed matrices: its parts, or the whole parameter."""
        if self.skipped:
            return ()
        return self.cut or (Matrix(parameter=self.parameter, transposed=self.way == SWAPPED),)


PLAIN = "as it is"
FLATTENED = "flattened to (out, in * kernel)"
SWAPPED = "axes swapped, then flattened to (out, in * kernel)"


def entry(parameter: str, shape: tuple[int, ...], transposed: bool = False) -> Entry:
    """How to reshape a parameter to a matrix, by its number of dimensions and whether its convolution is transposed."""
    if 0 in shape:
        return Entry(parameter=parameter, shape=shape, skipped="has no elements")
    way = SWAPPED if transposed else FLATTENED if len(shape) > 2 else PLAIN
    return Entry(parameter=parameter, shape=shape, way=way)


def inventory(net: nn.Module) -> tuple[Entry, ...]:
    """Every parameter and buffer of two or more dimensions, parameters in registration order, then buffers."""
    from torch import nn

    transposed = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
    swapped = {f"{name}.weight" for name, module in net.named_modules() if isinstance(module, transposed)}
    parameters = [
        entry(name, tuple(tensor.shape), transposed=name in swapped)
        for name, tensor in net.named_parameters()
        if tensor.ndim >= 2
    ]
    buffers = [
        Entry(parameter=name, shape=tuple(tensor.shape), skipped="a buffer, which is not trained")
        for name, tensor in net.named_buffers()
        if tensor.ndim >= 2
    ]
    return (*parameters, *buffers)


def layers(net: nn.Module) -> tuple[Matrix, ...]:
    """Every parameter of two or more dimensions as a matrix, in registration order."""
    return analysed(inventory(net))


def analysed(entries: Collection[Entry]) -> tuple[Matrix, ...]:
    """The matrices of the entries that are not skipped."""
    return tuple(matrix for entry in entries for matrix in entry.matrices)


def feed(
    writer: Matrix, reader: Matrix, shapes: Mapping[str, tuple[int, ...]], writer_vectors: Vectors = "left"
) -> LayerPair | None:
    """The pair of two whole layers, or None if the reader's inputs do not match the writer's outputs.

    A convolution reads by kernel position, represented by the centre [kh // 2, kw // 2].
    """
    of_writer, of_reader = (shapes[matrix.parameter] for matrix in (writer, reader))
    written = writer.shape(of_writer)[0 if writer_vectors == "left" else 1]
    channels = of_reader[0 if reader.transposed else 1]
    if written != channels:
        return None
    kernel = of_reader[2:]
    centre = 0
    for size in kernel:
        centre = centre * size + size // 2
    return LayerPair(
        writer=writer, reader=reader, writer_vectors=writer_vectors, positions=math.prod(kernel), shown=centre
    )


def consecutive_pairs(matrices: tuple[Matrix, ...], shapes: Mapping[str, tuple[int, ...]]) -> tuple[LayerPair, ...]:
    """Each layer paired with the next if the shapes match: the pairs of a plain chain."""
    found = (feed(a, b, shapes) for a, b in itertools.pairwise(matrices))
    return tuple(pair for pair in found if pair is not None)


def shapes_of(net: nn.Module) -> dict[str, tuple[int, ...]]:
    """The shape of every parameter by name."""
    return {name: tuple(parameter.shape) for name, parameter in net.named_parameters()}


def state_bytes(net: nn.Module) -> int:
    """Bytes of one checkpoint's tensors: parameters and persistent buffers."""
    return sum(tensor.numel() * tensor.element_size() for tensor in net.state_dict().values())
