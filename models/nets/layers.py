"""Properties of layers besides their names: kind, depth in the network and short name."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from graphlib import CycleError, TopologicalSorter
from typing import TYPE_CHECKING

from specdyn.models.nets.matrices import LayerPair, Matrix

if TYPE_CHECKING:
    from torch import nn

NO_DEPTH = -1
"""The depth of a layer without any known pair."""


def module_kinds(net: nn.Module) -> dict[str, str]:
    """The kind of every parameter by the type of its module: embedding, attention, mlp, conv or recurrent, else empty.

    A linear module outside of `nn.MultiheadAttention` counts as mlp.
    """
    from torch import nn

    kinds: tuple[tuple[type | tuple[type, ...], str], ...] = (
        (nn.MultiheadAttention, "attention"),
        ((nn.Embedding, nn.EmbeddingBag), "embedding"),
        (nn.modules.conv._ConvNd, "conv"),
        ((nn.RNNBase, nn.RNNCellBase), "recurrent"),
        ((nn.Linear, nn.Bilinear), "mlp"),
    )
    found: dict[str, str] = {}
    for name, module in net.named_modules():
        kind = next((kind for types, kind in kinds if isinstance(module, types)), "")
        for own, _ in module.named_parameters(prefix=name, recurse=bool(kind)):
            found.setdefault(own, kind)
    return found


def layer_kinds(layers: Sequence[Matrix], pairs: Sequence[LayerPair], known: Sequence[str]) -> list[str]:
    """The kinds of layers, given the `known` ones: layers that pairs compare per head are attention.

    The last layer is the output, unless another layer reads it.
    """
    by_head = {side.parameter for pair in pairs if pair.heads for side in (pair.writer, pair.reader)}
    writers = {pair.writer.parameter for pair in pairs}
    found = ["attention" if layer.parameter in by_head else kind for layer, kind in zip(layers, known, strict=True)]
    if found and "output" not in found and len(found) > 1 and layers[-1].parameter not in writers:
        found[-1] = "output"
    return found


def layer_depths(layers: Sequence[Matrix], pairs: Sequence[LayerPair]) -> list[int]:
    """Layers before each one on the longest path of feeding pairs.

    A layer that none feeds comes right before the first that reads it. -1 for a layer without pairs, and for all
    layers if user-supplied pairs form a cycle.
    """
    of_name = {layer.name: layer.name for layer in layers}
    of_parameter: dict[tuple[str, tuple[int, ...]], list[str]] = {}
    for layer in layers:
        of_parameter.setdefault((layer.parameter, layer.index), []).append(layer.name)

    def meant(side: Matrix) -> list[str]:
        """The layers that a side of a pair equals, is part of, or consists of."""
        return [of_name[side.name]] if side.name in of_name else of_parameter.get((side.parameter, side.index), [])

    before: dict[str, set[str]] = {}
    for pair in pairs:
        if pair.reader_vectors == "left":  # such as keys and queries, which are compared but do not feed one another
            continue
        writers = meant(pair.writer)
        for reader in meant(pair.reader):
            before.setdefault(reader, set()).update(name for name in writers if name != reader)
        for writer in writers:
            before.setdefault(writer, set())
    depths: dict[str, int] = {}
    try:
        for name in TopologicalSorter(before).static_order():
            depths[name] = 1 + max((depths[writer] for writer in before.get(name, ())), default=-1)
    except CycleError:
        return [NO_DEPTH] * len(layers)
    for name in [name for name, writers in before.items() if not writers]:
        depths[name] = min((depths[reader] for reader, writers in before.items() if name in writers), default=1) - 1
    return [depths.get(layer.name, NO_DEPTH) for layer in layers]


def short_names(names: Sequence[str]) -> dict[str, str]:
    """Parameter names without `weight`, shortened as far as they stay unique: `linear1`, `3.linear1`, `features.0`.

    A part in brackets is kept, and both sides of a pair `a -> b` are shortened: `in_proj[value] → out_proj`. Short
    names are for display only.
    """
    sides = [side for name in names for side in name.split(" -> ")]
    forms = {base: _forms(base) for base in dict.fromkeys(side.partition("[")[0] for side in sides)}
    uses = Counter(form for of_base in forms.values() for form in of_base)

    def cut(side: str) -> str:
        base, bracket, part = side.partition("[")
        return next((form for form in forms[base] if uses[form] == 1), base) + bracket + part

    return {name: " → ".join(cut(side) for side in name.split(" -> ")) for name in names}


def _forms(base: str) -> list[str]:
    """Forms of a parameter's name, shortest first; none is a bare number."""
    parts = base.removesuffix(".weight").removesuffix("_weight").split(".")
    numbers = [part for part in parts[:-1] if part.isdigit()]
    endings = [parts[-k:] for k in range(1, len(parts) + 1)]
    forms = [".".join(form) for form in (parts[-1:], [*numbers, parts[-1]], *endings)]
    return [form for form in dict.fromkeys(forms) if not form.replace(".", "").isdigit()]
