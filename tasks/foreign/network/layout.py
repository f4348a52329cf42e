"""Determines the layers and pairs of another program's network: by its family, else only the layers."""

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

import torch

from specdyn.models.families.base import CONVOLUTION, EMBEDDING, KINDS, QUERY, RECURRENT, Family, Place, Rule
from specdyn.models.nets.matrices import PLAIN, Entry, LayerPair, Matrix
from specdyn.models.spec.checks import require
from specdyn.tasks.foreign.names import BUFFERS, NO_WEIGHTS, TRANSPOSED
from specdyn.tasks.foreign.network.anatomy import UNKNOWN, Config, Shapes, fragments, recognise
from specdyn.tasks.foreign.network.convolutions import Module, convolution
from specdyn.tasks.foreign.network.pairs import pairs_of
from specdyn.tasks.foreign.network.pieces import Cutting, Piece, cutting, pieces_of
from specdyn.tasks.foreign.network.tables import PairTable
from specdyn.tasks.spectra.network_layout import NetworkLayout

NOWHERE = Place("")
VECTOR = "a vector: one row or one column"


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """Options of a call that determine how layers are read."""

    heads: int = 0
    """Heads of every attention; 0 takes the number from config.json."""
    transposed: str = TRANSPOSED
    """A regular expression that finds transposed convolutions by name."""
    pairs: PairTable = field(default_factory=PairTable)
    """User-supplied pairs, which replace the family's."""
    modules: Mapping[str, Module] = field(default_factory=dict)
    """Properties of convolutions by weight, if a model provides them."""

    def __post_init__(self) -> None:
        require(self.heads >= 0, "heads", self.heads, "an integer of 0 or more")
        try:
            re.compile(self.transposed)
        except re.error as error:
            raise ValueError(f"transposed={self.transposed!r} is not a regular expression: {error}") from None


@dataclass(frozen=True, slots=True, kw_only=True)
class Tensors:
    """The tensors of a network as analysed, and what happened to the others in the files."""

    shapes: Shapes
    dtypes: Mapping[str, torch.dtype]
    made: Mapping[str, str] = field(default_factory=dict)
    """How tensors are computed that are stored in parts, for example as a product with a mask."""
    left_out: Mapping[str, tuple[tuple[int, ...], str]] = field(default_factory=dict)
    """Shape of, and reason for, tensors that are not the network's own, such as masks and scales."""
    tied: Mapping[str, str] = field(default_factory=dict)
    """Alias of a shared tensor -> the name that is kept."""

    def with_new_of(self, other: "Tensors") -> "Tensors":
        """These tensors, plus those of another checkpoint under new names."""
        return Tensors(
            shapes={**self.shapes, **{n: shape for n, shape in other.shapes.items() if n not in self.shapes}},
            dtypes={**other.dtypes, **self.dtypes},
            made={**other.made, **self.made},
            left_out={**other.left_out, **self.left_out},
            tied={**other.tied, **self.tied},
        )


def foreign_layout(tensors: Tensors, config: Config | None = None, look: Look | None = None) -> NetworkLayout:
    """The layout of a network known by its tensors and by config.json, if there is one.

    ValueError if there is no layer at all, if heads are given but there is no attention or they do not divide it, or
    if a user-supplied pair is invalid.
    """
    config, look = config or {}, look or Look()
    shapes = tensors.shapes
    known = recognise({**shapes, **{name: shapes[kept] for name, kept in tensors.tied.items()}}, config)
    how = cutting(shapes, known.family, config, look.heads)
    reasons = no_layers(tensors)
    pieces, pairs, parts = _anatomy(known.family, tensors, config, how, reasons, look)
    because = known.because + (f"; by themselves are known: {', '.join(parts)}" if parts else "")
    entries = [_entry(name, tensors, pieces.get(name, []), reasons, look) for name in shapes]
    layout = NetworkLayout(
        entries=(*(one for one in entries if one), *_left_out(tensors)),
        pairs=pairs,
        family=known.name,
        because=because,
    )
    if not layout.layers:
        raise ValueError(f"no tensor of two or more rows and columns to analyse among {len(shapes)} tensors")
    if look.heads and not any(pair.heads for pair in pairs):
        raise ValueError(
            f"heads={look.heads}, but no projections of queries and keys are known among the {len(layout.layers)} "
            f"layers (family {known.name}: {known.because}); leave out the heads, or give pairs"
        )
    return replace(layout, pairs=look.pairs.among(layout, shapes)) if look.pairs else layout


def no_layers(tensors: Tensors) -> dict[str, str]:
    """Tensors that are not layers by their type, size or name, with the reason."""
    reasons: dict[str, str] = {}
    for name, shape in tensors.shapes.items():
        if not tensors.dtypes[name].is_floating_point:
            reasons[name] = f"of type {str(tensors.dtypes[name]).removeprefix('torch.')}"
        elif BUFFERS.search(name):
            reasons[name] = "a buffer by its name, which is not trained"
        elif 0 in shape:
            reasons[name] = "has no elements"
        elif why := next((why for why, pattern in NO_WEIGHTS.items() if pattern.search(name.lower())), ""):
            reasons[name] = why
    return reasons


def _anatomy(
    family: Family | None, tensors: Tensors, config: Config, how: Cutting, reasons: dict[str, str], look: Look
) -> tuple[dict[str, list[Piece]], tuple[LayerPair, ...], list[str]]:
    """The pieces of all tensors that match a rule, the pairs, and the recognised components.

    Adds reasons for tensors that are not layers.
    """
    shapes, of_tensor, pairs = tensors.shapes, dict[str, list[Piece]](), list[LayerPair]()
    parts: list[str] = []
    for one in [*([family] if family else []), *fragments(shapes)]:
        left = [name for name in shapes if name not in of_tensor and name not in reasons]
        pieces, others = pieces_of(left, one.rules, how)
        if one.fragment:
            begun = {piece.place.stack for piece in pieces if QUERY in piece.slots or piece.role == RECURRENT}
            pieces = [piece for piece in pieces if piece.place.stack in begun]
        reasons |= others
        pieces = _grouped(_tied(pieces, tensors, one.rules, config), one.rules, shapes, look)
        for piece in pieces:
            known = replace(piece, kind=one.kind_of(piece.role, piece.slots))
            of_tensor.setdefault(piece.matrix.parameter, []).append(known)
        if look.heads:
            _require_divided(pieces, shapes, look.heads)
        if look.heads or not one.only_with_heads:
            claimed = pairs_of(pieces, one.feeds_for(config), shapes, how.heads)
            parts += [one.title] if one.fragment and claimed else []
            pairs += claimed
    return of_tensor, tuple(dict.fromkeys(pairs)), parts


def _tied(pieces: list[Piece], tensors: Tensors, rules: Iterable[Rule], config: Config) -> list[Piece]:
    """The pieces, with tied ones also in the role of their second name."""
    shapes = {name: tensors.shapes[kept] for name, kept in tensors.tied.items()}
    again, _ = pieces_of(shapes, tuple(rules), Cutting(shapes=shapes, heads=0, groups=0, width=0, sizes={}))
    slots: dict[str, tuple[str, ...]] = {}
    for piece in again:
        kept = tensors.tied[piece.matrix.parameter]
        slots[kept] = slots.get(kept, ()) + piece.slots
    heads = tuple(rule.name for rule in rules if rule.ties)
    if config.get("tie_word_embeddings") and not any(set(heads) & set(piece.slots) for piece in pieces):
        slots |= {piece.matrix.parameter: heads for piece in pieces if EMBEDDING in piece.slots}
    return [replace(piece, slots=(*piece.slots, *slots.get(piece.matrix.parameter, ()))) for piece in pieces]


def _grouped(pieces: list[Piece], rules: Iterable[Rule], shapes: Shapes, look: Look) -> list[Piece]:
    """The pieces, with convolutions split into groups if the family says what they read."""
    after = {rule.name: rule.after for rule in rules if rule.after}
    rows = {(slot, piece.place): shapes[piece.matrix.parameter][0] for piece in pieces for slot in piece.slots}
    cut: list[Piece] = []
    for piece in pieces:
        before = [rows.get((after[slot], piece.place), 0) for slot in piece.slots if slot in after]
        if before and shapes[piece.matrix.parameter][1] != before[0] > 0:
            name = piece.matrix.parameter
            found = convolution(name, shapes, re.compile(look.transposed), before[0], look.modules.get(name))
            # A grouped convolution is not a single matrix, and none of its groups reads all that is written.
            cut += [replace(piece, matrix=matrix, slots=(), way=found.way) for matrix in found.matrices]
        else:
            cut.append(piece)
    return cut


def _require_divided(pieces: Iterable[Piece], shapes: Shapes, heads: int) -> None:
    for piece in pieces:
        if QUERY in piece.slots:
            rows = piece.matrix.shape(shapes[piece.matrix.parameter])[0]
            name, cuts = piece.matrix.parameter, ", ".join(piece.slots)
            require(
                piece.whole, "heads", heads, f"a number that cuts the {rows} rows of {name} into {cuts} of each head"
            )
            require(rows % heads == 0, "heads", heads, f"a divisor of {rows}, the width of {name}")


def _entry(name: str, tensors: Tensors, pieces: list[Piece], reasons: Mapping[str, str], look: Look) -> Entry | None:
    """The entry of a tensor; None if it has one dimension and needs no mention."""
    shape, made = tensors.shapes[name], tensors.made.get(name, "")
    if name in reasons:
        return Entry(parameter=name, shape=shape, skipped=reasons[name]) if len(shape) > 1 or made else None
    if len(shape) < 2:
        return None
    if not pieces:
        found = _of_no_rule(name, tensors.shapes, look)
        if isinstance(found, str):
            return Entry(parameter=name, shape=shape, skipped=found)
        pieces = found
    layers = [piece for piece in pieces if piece.layer and min(piece.matrix.shape(shape)) > 1]
    if not layers:
        return Entry(parameter=name, shape=shape, skipped=VECTOR)
    ways = [way for way in (made, layers[0].way or ("" if made else PLAIN)) if way]
    return Entry(
        parameter=name,
        shape=shape,
        way=", ".join(ways),
        cut=tuple(piece.matrix for piece in layers),
        roles=tuple(piece.role for piece in layers),
        kinds=tuple(piece.kind for piece in layers),
    )


def _of_no_rule(name: str, shapes: Shapes, look: Look) -> list[Piece] | str:
    """The matrices of a tensor with an unknown role, or why there are none."""
    shape = shapes[name]
    while len(shape) > 2 and shape[0] == 1 and not name.endswith("weight"):
        shape = shape[1:]
    leading = (0,) * (len(shapes[name]) - len(shape))
    if max(shape) == math.prod(shape):
        return VECTOR
    if len(shape) > 2:
        found = convolution(name, shapes, re.compile(look.transposed), module=look.modules.get(name))
        return found.skipped or [_piece(matrix, CONVOLUTION, found.way) for matrix in found.matrices]
    way = f"without {len(leading)} leading axes of length 1" if leading else ""
    return [_piece(Matrix(parameter=name, index=leading), UNKNOWN, way)]


def _piece(matrix: Matrix, role: str, way: str) -> Piece:
    return Piece(matrix=matrix, role=role, slots=(), place=NOWHERE, way=way, kind=KINDS.get(role, ""))


def _left_out(tensors: Tensors) -> list[Entry]:
    """Entries for tensors that are not the network's own, and for aliases of shared tensors."""
    others = [Entry(parameter=name, shape=shape, skipped=why) for name, (shape, why) in tensors.left_out.items()]
    again = [
        Entry(
            parameter=name, shape=tensors.shapes[kept], skipped=f"the same tensor as {kept}: one layer with two names"
        )
        for name, kept in tensors.tied.items()
    ]
    return [*others, *again]
