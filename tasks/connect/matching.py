"""Permutes the hidden units of one network to match another's: weight matching by coordinate descent.

Shapes: N units of a group, P parts and L positions of a unit along an axis, R numbers of a unit in an entry.
"""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from specdyn.models.nets.convnet import ConvNormBlock, LeNetNet, ResidualBlock, ResNetNet, VggNet
from specdyn.models.nets.matrices import Matrix
from specdyn.models.nets.mlp import MlpNet
from specdyn.models.nets.transformer import TransformerNet
from specdyn.models.spec.checks import require, require_known
from specdyn.tasks.connect.paths import require_alike
from specdyn.tasks.spectra.assignment import one_to_one

Tensors = Mapping[str, Tensor]
KNOWN = (MlpNet, VggNet, ResNetNet, LeNetNet, TransformerNet)
"""Networks with known exchangeable units."""
ROUNDING = 1e-12
"""Gain, relative to the changed similarities, below which it counts as rounding error."""


@dataclass(frozen=True, slots=True)
class Axis:
    """An axis of an entry that holds the units of a group: all units in order, `parts` times, each `block` long.

    A block is a head's numbers or a flattened channel's pixels; parts are fused queries, keys and values. An entry that
    is not `scored`, such as statistics of the data, moves with the units but does not influence the matching.
    """

    entry: str
    axis: int
    block: int = 1
    parts: int = 1
    scored: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Units that can be permuted without changing the function, if all their axes are permuted together."""

    name: str
    size: int
    axes: tuple[Axis, ...]

    def __post_init__(self) -> None:
        entries = [axis.entry for axis in self.axes]
        require(len(set(entries)) == len(entries), f"axes of {self.name!r}", entries, "each entry once")


class Match(NamedTuple):
    """The permutation (N,) of each group, by name, and the objective before the first and after each sweep."""

    permutations: dict[str, Tensor]
    objectives: tuple[float, ...]


def has_groups(net: nn.Module) -> bool:
    """Whether the exchangeable units of this network are known."""
    return isinstance(net, KNOWN)


def groups(net: nn.Module) -> tuple[Group, ...]:
    """Every group of exchangeable units; ValueError for an unknown type of network."""
    weights = net.state_dict()
    if isinstance(net, MlpNet):
        return _chain([(f"layers.{i}", "") for i in range(len(net.layers))], weights)
    if isinstance(net, VggNet):
        blocks = [f"layers.{i}." for i, layer in enumerate(net.layers) if isinstance(layer, ConvNormBlock)]
        return _chain([*[(block + "conv", block + "bn") for block in blocks], ("fc", "")], weights)
    if isinstance(net, ResNetNet):
        return _residual([block for block in net.blocks if isinstance(block, ResidualBlock)], weights)
    if isinstance(net, LeNetNet):
        names = [f"{kind}.{i}" for kind, layers in (("convs", net.convs), ("layers", net.layers)) for i in range(2)]
        return _chain([(name, "") for name in (*names, "fc")], weights)
    if isinstance(net, TransformerNet):
        return tuple(group for i in range(net.config.depth) for group in _of_block(i, net.config.heads, weights))
    supported = ", ".join(known.__name__ for known in KNOWN)
    raise ValueError(f"no groups of units are known for {type(net).__name__}: supported are {supported}")


def permute(weights: Tensors, groups: Sequence[Group], permutations: Tensors) -> dict[str, Tensor]:
    """The same function with unit p[i] at position i of each group; unaffected entries are shared.

    Groups without a permutation (N,) stay as they are. ValueError if a permutation or an entry does not fit its group.
    """
    known = {group.name: group for group in groups}
    permuted = dict(weights)
    for name, p in permutations.items():
        require_known("group of units", name, known)
        size = known[name].size
        fits = p.ndim == 1 and sorted(p.tolist()) == list(range(size))
        require(fits, f"permutation of {name!r}", p.tolist(), f"each of 0 to {size - 1} once")
        permuted |= {axis.entry: _reorder(permuted, axis, size, p) for axis in known[name].axes}
    return permuted


def places(layer: Matrix, weights: Tensors, groups: Sequence[Group], permutations: Tensors) -> tuple[Tensor, Tensor]:
    """Rows (M,) and columns (N,) such that `permute` turns the layer W into W[rows][:, columns].

    ValueError if the permutations also move numbers between rows, or into the layer from outside.
    """
    shape = weights[layer.parameter].shape
    moved = {layer.parameter: torch.arange(shape.numel()).view(shape)}
    before_MN = layer.of(moved)
    for group in groups:
        for axis in group.axes:
            if axis.entry == layer.parameter and group.name in permutations:
                moved[axis.entry] = _reorder(moved, axis, group.size, permutations[group.name])
    after_MN = layer.of(moved)
    came_from = torch.full((shape.numel(),), -1)
    came_from[before_MN.flatten()] = torch.arange(before_MN.numel())
    rows_M = came_from[after_MN[:, 0]] // before_MN.shape[1]
    columns_N = came_from[after_MN[0]] % before_MN.shape[1]
    whole = torch.equal(before_MN[rows_M][:, columns_N], after_MN)
    require(whole, "permutations", sorted(permutations), f"ones that move whole rows and columns of {layer.name}")
    return rows_M, columns_N


def match(a: Tensors, b: Tensors, groups: Sequence[Group], seed: int, sweeps: int = 100) -> Match:
    """Permutations of B that maximise the sum of its inner products with A over the entries that score.

    Each sweep visits the groups in a new random order and finds each one's best permutation with the others fixed; the
    first sweep that changes nothing is the last. ValueError if entries differ in shape or are not finite.
    """
    rng = np.random.default_rng(seed)
    entries = sorted({axis.entry for group in groups for axis in group.axes if axis.scored})
    require_alike(a, b, entries)
    target, moved = _doubles(a, entries), _doubles(b, entries)
    permutations = {group.name: torch.arange(group.size) for group in groups}
    objectives = [sum(float((target[entry] * moved[entry]).sum()) for entry in entries)]
    for _ in range(sweeps):
        gained = sum(_improve(groups[i], target, moved, permutations) for i in rng.permutation(len(groups)))
        objectives.append(objectives[-1] + gained)
        if not gained:
            break
    return Match(permutations, tuple(objectives))


def _improve(group: Group, target: Tensors, moved: dict[str, Tensor], permutations: dict[str, Tensor]) -> float:
    """Permute the group's units of `moved` optimally; returns the gain of the objective, 0 if nothing changed."""
    axes = [axis for axis in group.axes if axis.scored]
    similarity_NN = torch.zeros(group.size, group.size, dtype=torch.float64)
    for axis in axes:
        similarity_NN += _units(target, axis, group.size) @ _units(moved, axis, group.size).mT
    best = torch.from_numpy(one_to_one(similarity_NN.numpy())[1])
    before, after = similarity_NN.diagonal(), similarity_NN.gather(1, best[:, None])[:, 0]
    changing = (after.abs() + before.abs())[best != torch.arange(group.size)]
    gain = float((after - before).sum())
    if gain <= ROUNDING * float(changing.sum()):
        return 0.0
    permutations[group.name] = permutations[group.name][best]
    moved |= {axis.entry: _reorder(moved, axis, group.size, best) for axis in axes}
    return gain


def _doubles(weights: Tensors, entries: Sequence[str]) -> dict[str, Tensor]:
    for entry in entries:
        require(bool(weights[entry].isfinite().all()), entry, "NaN or infinity", "finite weights")
    return {entry: weights[entry].detach().to("cpu", torch.float64) for entry in entries}


def _unfold(weights: Tensors, axis: Axis, size: int) -> Tensor:
    """The entry with the axis split into three, (P, N, L)."""
    require_known("entry", axis.entry, weights)
    w = weights[axis.entry]
    length = axis.parts * size * axis.block
    fits = 0 <= axis.axis < w.ndim and w.shape[axis.axis] == length
    require(fits, f"shape of {axis.entry!r}", tuple(w.shape), f"{length} along axis {axis.axis} for {size} units")
    return w.unflatten(axis.axis, (axis.parts, size, axis.block))


def _units(weights: Tensors, axis: Axis, size: int) -> Tensor:
    """The numbers of each unit in the entry, (N, R)."""
    return _unfold(weights, axis, size).movedim(axis.axis + 1, 0).flatten(1)


def _reorder(weights: Tensors, axis: Axis, size: int, p: Tensor) -> Tensor:
    """The entry with unit p[i] at position i."""
    unfolded = _unfold(weights, axis, size)
    return unfolded.index_select(axis.axis + 1, p.to(unfolded.device)).flatten(axis.axis, axis.axis + 2)


def _chain(layers: Sequence[tuple[str, str]], weights: Tensors) -> tuple[Group, ...]:
    """One group per connection: the units that a layer (with any BatchNorm) writes and the next reads."""
    found = []
    for (layer, norm), (reader, _) in itertools.pairwise(layers):
        size = len(weights[f"{layer}.weight"])
        axes = [Axis(f"{layer}.{part}", 0) for part in ("weight", "bias")]
        if norm:
            axes += _of_norm(norm)
        axes.append(Axis(f"{reader}.weight", 1, block=weights[f"{reader}.weight"].shape[1] // size))
        found.append(Group(name=layer, size=size, axes=tuple(axes)))
    return tuple(found)


def _of_norm(norm: str) -> list[Axis]:
    """Scale, shift and statistics of a BatchNorm."""
    learned = [Axis(f"{norm}.{part}", 0) for part in ("weight", "bias")]
    return [*learned, *(Axis(f"{norm}.running_{part}", 0, scored=False) for part in ("mean", "var"))]


def _residual(blocks: Sequence[ResidualBlock], weights: Tensors) -> tuple[Group, ...]:
    """The hidden channels of each block, and the residual channels shared by the blocks between two projections."""

    def written(conv: str, norm: str) -> list[Axis]:
        return [Axis(f"{conv}.weight", 0), *_of_norm(norm)]

    def group(name: str, axes: Sequence[Axis]) -> Group:
        return Group(name=name, size=len(weights[f"{name}.weight"]), axes=tuple(axes))

    found = []
    name, stream = "conv", written("conv", "bn")
    for i, block in enumerate(blocks):
        first, second, shortcut = (f"blocks.{i}.{part}" for part in ("conv1", "conv2", "shortcut"))
        found.append(group(first, [*written(first, f"blocks.{i}.bn1"), Axis(f"{second}.weight", 1)]))
        stream.append(Axis(f"{first}.weight", 1))
        if not isinstance(block.shortcut, nn.Identity):
            found.append(group(name, [*stream, Axis(f"{shortcut}.0.weight", 1)]))
            name, stream = second, written(f"{shortcut}.0", f"{shortcut}.1")
        stream += written(second, f"blocks.{i}.bn2")
    return (*found, group(name, [*stream, Axis("fc.weight", 1)]))


def _of_block(i: int, heads: int, weights: Tensors) -> tuple[Group, Group]:
    """The heads and the hidden units of a transformer's block."""
    attention, up, down = (f"transformer_encoder.layers.{i}.{name}" for name in ("self_attn", "linear1", "linear2"))
    width = len(weights[f"{attention}.out_proj.weight"]) // heads
    fused = [Axis(f"{attention}.in_proj_{part}", 0, block=width, parts=3) for part in ("weight", "bias")]
    mixing = (*fused, Axis(f"{attention}.out_proj.weight", 1, block=width))
    hidden = (Axis(f"{up}.weight", 0), Axis(f"{up}.bias", 0), Axis(f"{down}.weight", 1))
    return Group(name=attention, size=heads, axes=mixing), Group(name=up, size=len(weights[f"{up}.bias"]), axes=hidden)
