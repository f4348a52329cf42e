"""Splits the tensors of a known family into the matrices by which the network multiplies."""

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from specdyn.models.families.base import DOWN, FUSED, NO_LAYERS, OUTPUT, Family, Place, Rule, Stored
from specdyn.models.nets.matrices import Matrix
from specdyn.tasks.foreign.network.anatomy import GROUPS, HEADS, Config, Named, Shapes, kept, named, setting, width_of

GATES = {4: ("input gate", "forget gate", "cell gate", "output gate"), 3: ("reset gate", "update gate", "new gate")}
"""Gates of LSTM and GRU, in torch's order."""
SHOWN = 2
"""The gate that represents a pair: the cell or new gate, which writes the content."""
WRITERS = (OUTPUT, DOWN)
"""Roles whose outputs are as wide as the stream; the others read it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """A matrix of a network, with its role and position."""

    matrix: Matrix
    role: str
    slots: tuple[str, ...]
    """Its slots; a fused tensor that cannot be split has the slots of all its parts."""
    place: Place
    way: str
    layer: bool = True
    """Whether it is analysed itself, or only as part of a pair."""
    whole: bool = True
    """Whether it is exactly its slot; false if it represents several parts."""
    gates: int = 1
    kind: str = ""
    """Its kind, such as attention; empty if unknown."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cutting:
    """Parameters for splitting tensors."""

    shapes: Shapes
    heads: int
    groups: int
    """Key-value heads, for grouped attention."""
    width: int
    sizes: Mapping[str, int]
    """Settings of config.json that rules name."""


def cutting(shapes: Shapes, family: Family | None, config: Config, heads: int) -> Cutting:
    """The parameters from config.json and the options; an explicit number of heads takes precedence."""
    rules = family.rules if family else ()
    wanted = {name for rule in rules for name in rule.sizes}
    stacked = [shapes[tensor][0] for tensor in named(shapes, [rule for rule in rules if rule.heads])]
    count = heads or (stacked[0] if stacked else setting(config, HEADS) if family else 0)
    return Cutting(
        shapes=shapes,
        heads=count,
        groups=setting(config, GROUPS) if family else 0,
        width=width_of(shapes, rules, config),
        sizes={name: setting(config, (name,)) for name in wanted},
    )


def pieces_of(tensors: Iterable[str], rules: Sequence[Rule], how: Cutting) -> tuple[list[Piece], dict[str, str]]:
    """The pieces of all tensors of two or more dimensions that match rules, and why others have none."""
    pieces: list[Piece] = []
    reasons: dict[str, str] = {}
    for tensor, one in named(tensors, rules).items():
        if one.rule.role in NO_LAYERS:
            reasons[tensor] = NO_LAYERS[one.rule.role]
        elif len(how.shapes[tensor]) >= 2:
            pieces += _pieces(one, how)
    return pieces, reasons


def _pieces(one: Named, how: Cutting) -> list[Piece]:
    shape, rule = how.shapes[one.tensor], one.rule
    if rule.experts and len(shape) == 3:
        inner = replace(rule, experts=False, stored=_stored(rule, shape, how.width))
        return [
            replace(piece, place=piece.place._replace(expert=(i,)), matrix=_of_expert(piece.matrix, i))
            for i in range(shape[0])
            for piece in _plain(replace(one, rule=inner), shape[1:], how)
        ]
    if rule.heads and len(shape) == 3:
        return _stacked_heads(one, shape)
    return _plain(one, shape, how)


def _of_expert(matrix: Matrix, index: int) -> Matrix:
    part = f"expert {index}" + (f" {matrix.part}" if matrix.part else "")
    return replace(matrix, index=(index,), part=part)


def _stored(rule: Rule, shape: tuple[int, ...], width: int) -> Stored:
    """The input axis of stacked experts: the one as wide as the residual stream, unless they write to it."""
    way = kept(shape, width) if width in shape[-2:] else None
    if way is None:
        return rule.stored
    if rule.role in WRITERS:
        return "out_in" if way == "in_out" else "in_out"
    return way


def _stacked_heads(one: Named, shape: tuple[int, ...]) -> list[Piece]:
    """One matrix per head of (H, in, out) or (H, out, in), and the whole that they form together."""
    rule, turned = one.rule, one.rule.stored == "in_out"
    way = "whole, and a matrix a head" + (", transposed, as they are kept as (in, out)" if turned else "")
    each = [
        Piece(
            matrix=Matrix(parameter=one.tensor, index=(head,), transposed=turned, part=f"head {head + 1}"),
            role=rule.role,
            slots=(),
            place=one.place,
            way=way,
        )
        for head in range(shape[0])
    ]
    # For heads that read the stream, the outputs are concatenated; for an output projection, the inputs.
    outputs = ((0, 2) if turned else (0, 1)) if rule.role != OUTPUT else ((2,) if turned else (1,))
    whole = Piece(
        matrix=Matrix(parameter=one.tensor, outputs=outputs),
        role=rule.role,
        slots=(rule.name,),
        place=one.place,
        way=way,
    )
    return [whole, *each]


def _plain(one: Named, shape: tuple[int, ...], how: Cutting) -> list[Piece]:
    rule = one.rule
    turned = len(shape) == 2 and (rule.stored == "in_out" or _turned_by_thirds(rule, shape))
    matrix = Matrix(parameter=one.tensor, transposed=turned)
    way = "transposed, as it is kept as (in, out)" if turned else ""
    piece = Piece(matrix=matrix, role=rule.role, slots=(rule.name,), place=one.place, way=way)
    rows, columns = matrix.shape(shape)
    if rule.gates:
        return _gates(piece, rows, shape, how)
    if not rule.parts:
        return [piece]
    # An explicit slot, such as cross attention, prefixes the names of the parts.
    slots = tuple(f"{rule.slot} {part}" if rule.slot else part for part in rule.parts)
    if (cuts := _cuts(rule, rows, columns, how)) is None:
        whole = f"whole: the rows of {', '.join(rule.parts)} cannot be separated without the number of heads"
        return [replace(piece, slots=slots, whole=False, way=whole)]
    return [
        replace(
            piece,
            matrix=replace(matrix, part=part, rows=(start, stop), every=every),
            role=part,
            slots=(slot,),
            way=f"{way}{', ' if way else ''}cut into {', '.join(rule.parts)}",
        )
        for part, slot, (start, stop, every) in zip(rule.parts, slots, cuts, strict=True)
    ]


def _turned_by_thirds(rule: Rule, shape: tuple[int, ...]) -> bool:
    """Whether a fused projection must be stored as (in, out), judging by its threefold length."""
    return rule.role == FUSED and len(rule.parts) == 3 and shape[1] == 3 * shape[0]


def _cuts(rule: Rule, rows: int, columns: int, how: Cutting) -> list[tuple[int, int, int]] | None:
    """First row, last row and period of each part; None if unknown."""
    count = len(rule.parts)
    if rule.sizes:
        known = [how.sizes[name] for name in rule.sizes]
        rest = [rows - sum(known) - (known[-1] if count > len(known) + 1 else 0)]
        lengths = [*known, *([known[-1]] if count > len(known) + 1 else []), *rest][:count]
        return _blocks(lengths) if all(known) and sum(lengths) == rows and min(lengths) > 0 else None
    if rule.cut == "alternating":
        return [(i, i + 1, count) for i in range(count)] if rows % count == 0 else None
    if count == 2 or (rule.cut == "blocks" and (not how.heads or rows == count * columns)):
        thirds = rows % count == 0 and (count == 2 or rows == count * columns)
        return _blocks([rows // count] * count) if thirds else None
    groups = how.groups or how.heads
    if not how.heads or how.heads % groups or rows % (how.heads + 2 * groups):
        return None
    size = rows // (how.heads + 2 * groups)
    if rule.cut == "blocks":
        return _blocks([how.heads * size, groups * size, groups * size])
    period = rows // groups
    return [(start, stop, period) for start, stop, _ in _blocks([how.heads // groups * size, size, size])]


def _blocks(lengths: Sequence[int]) -> list[tuple[int, int, int]]:
    return [(start, end, 0) for start, end in itertools.pairwise(itertools.accumulate(lengths, initial=0))]


def _gates(piece: Piece, rows: int, shape: tuple[int, ...], how: Cutting) -> list[Piece]:
    """The gates of a recurrent layer, and the whole layer, whose vectors pairs compare gate by gate."""
    name = piece.matrix.parameter
    hidden = how.shapes.get(name.replace("weight_ih", "weight_hr").replace("weight_hh", "weight_hr"))
    width = hidden[1] if hidden else how.shapes.get(name.replace("weight_ih", "weight_hh"), shape)[1]
    names = GATES.get(rows // width if rows % width == 0 else 0)
    if names is None:
        return [piece]
    each = [
        replace(
            piece,
            matrix=replace(piece.matrix, part=gate, rows=(i * width, (i + 1) * width)),
            role=gate,
            slots=(),
            way=f"cut into {', '.join(names)}",
        )
        for i, gate in enumerate(names)
    ]
    return [replace(piece, layer=False, gates=len(names)), *each]
