"""Builds the pairs of matrices that feed one another from a family's feeds."""

import itertools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Literal

import numpy as np

from specdyn.models.families.base import EMBEDDING, KEY, Feed, Place, Where
from specdyn.models.nets.matrices import LayerPair, Matrix
from specdyn.tasks.foreign.network.anatomy import Shapes
from specdyn.tasks.foreign.network.pieces import SHOWN, Piece

By = Mapping[str, Mapping[Place, Sequence[Piece]]]
"""Slot -> position -> pieces there."""


def pairs_of(pieces: Sequence[Piece], feeds: Sequence[Feed], shapes: Shapes, heads: int) -> tuple[LayerPair, ...]:
    """Every pair of the feeds whose shapes match; pairs by head only if the number of heads is known."""
    by, stacks = _by_slot(pieces), {piece.place.stack for piece in pieces if piece.place.block}
    several = len(stacks) > 1
    found: list[tuple[tuple[float, ...], LayerPair]] = []
    for feed in feeds:
        for writer, reader in _meet(feed, by, several):
            pair = _by_head(writer, reader, shapes, heads) if feed.by_head else fed(writer, reader, shapes)
            if pair is not None:
                found.append((_depth(writer.place, reader.place), pair))
    # In the order of the network; within a block, in the order of the feeds.
    return tuple(dict.fromkeys(pair for _, pair in sorted(found, key=lambda one: one[0])))


def _depth(writer: Place, reader: Place) -> tuple[float, ...]:
    """Sort key of pairs: the writer's block, with embeddings first and heads last."""
    return writer.block or (() if reader.block else (math.inf,))


def _by_slot(pieces: Iterable[Piece]) -> By:
    by: dict[str, dict[Place, list[Piece]]] = {}
    for piece in pieces:
        for slot in piece.slots:
            by.setdefault(slot, {}).setdefault(piece.place, []).append(piece)
    return by


def _meet(feed: Feed, by: By, several: bool) -> list[tuple[Piece, Piece]]:
    """Writers with their readers; different stacks are not mixed if there are `several`, nor within a block."""
    writers = [_first_there(slot.split("|"), by) for slot in feed.writers]
    readers = [by.get(slot, {}) for slot in feed.readers]
    apart = feed.where == "same" or (several and feed.where != "all")
    stacks = sorted({place.stack for of in writers for place in of}) if apart else [None]
    met: list[tuple[Piece, Piece]] = []
    for stack in stacks:
        ours, theirs = ([_within(places, stack) for places in of] for of in (writers, readers))
        goes = _way(feed.where, [place for of in ours for place in of], [place for of in theirs for place in of])
        met += [
            (w, r)
            for of in ours
            for into in theirs
            for place, other in _candidates(feed.where, of, into)
            if goes(place, other)
            for w, r in itertools.product(of[place], into[other])
            if w.matrix != r.matrix
        ]
    return met


def _candidates(where: Where, writers: Iterable[Place], readers: Iterable[Place]) -> Iterable[tuple[Place, Place]]:
    """Positions that may feed one another; limited to the same expert, as there may be thousands."""
    if where == "same":
        there = set(readers)
        return ((place, place) for place in writers if place in there)
    others = [place for place in readers if not place.expert]
    return itertools.product((place for place in writers if not place.expert), others)


def _first_there(slots: Sequence[str], by: By) -> dict[Place, Sequence[Piece]]:
    """For each position, the pieces in the first non-empty alternative slot."""
    found: dict[Place, Sequence[Piece]] = {}
    for slot in reversed(slots):
        found |= by.get(slot, {})
    return found


def _within(places: Mapping[Place, Sequence[Piece]], stack: str | None) -> dict[Place, Sequence[Piece]]:
    return {place: of for place, of in sorted(places.items()) if stack in (None, place.stack)}


def _way(where: Where, writers: Sequence[Place], readers: Sequence[Place]) -> Callable[[Place, Place], bool]:
    """Whether what is written at one place is read at another.

    Between blocks experts are not paired, as a token goes through few of them. All blocks with any of the slots count,
    including experts, so that no block is skipped.
    """
    if where in ("same", "all"):
        return lambda place, other: where == "all" or place == other
    last = max((place.block for place in writers), default=())
    reading = sorted({place.block for place in readers})
    after = {block: next((r for r in reading if r > block), None) for block in {place.block for place in writers}}

    def goes(place: Place, other: Place) -> bool:
        if place.expert or other.expert:
            return False
        if where == "next":
            return other.block == after[place.block]
        return place.block == last and (where == "each" or other.block == reading[0])

    return goes


def fed(writer: Piece, reader: Piece, shapes: Shapes) -> LayerPair | None:
    """The pair of two matrices, or None if the reader's inputs do not match the writer's outputs."""
    if not writer.whole:
        return None
    turned = writer.role == EMBEDDING
    rows, columns = writer.matrix.shape(shapes[writer.matrix.parameter])
    written = columns if turned else rows // writer.gates
    read, matrix = reader.matrix.shape(shapes[reader.matrix.parameter])[1], reader.matrix
    kernel = () if matrix.index or matrix.outputs else shapes[matrix.parameter][2:]
    positions = math.prod(kernel)
    if not kernel and read % written == 0 and read > written:
        if direction := _direction(reader) or _direction(writer):
            matrix = _half(matrix, direction, written) if read == 2 * written else matrix
            read = matrix.shape(shapes[matrix.parameter])[1]
        elif len(shapes[writer.matrix.parameter]) > 2:
            positions = read // written  # a linear layer that reads every position of the last channels
    if written * positions != read or min(rows, columns, matrix.shape(shapes[matrix.parameter])[0]) < 2:
        return None
    centre = int(np.ravel_multi_index([size // 2 for size in kernel], kernel)) if kernel else positions // 2
    return LayerPair(
        writer=writer.matrix,
        reader=matrix,
        writer_vectors="right" if turned else "left",
        positions=positions,
        gates=writer.gates,
        shown=min(SHOWN, writer.gates - 1) if writer.gates > 1 else centre,
    )


def _direction(piece: Piece) -> str:
    """The direction of a recurrent layer."""
    return next((way for way in ("forward", "reverse") for slot in piece.slots if slot.startswith(f"{way} ")), "")


def _half(matrix: Matrix, direction: str, width: int) -> Matrix:
    """The columns that read one direction of the layer below."""
    start = width if direction == "reverse" else 0
    return replace(matrix, part=direction, columns=(start, start + width))


def _by_head(writer: Piece, reader: Piece, shapes: Shapes, heads: int) -> LayerPair | None:
    """Keys with queries, or values with the columns of the output that read them, as stacks of heads.

    With grouped attention, keys and values have fewer heads, determined from the sizes.
    """
    if not (heads and writer.whole and reader.whole):
        return None
    key = writer.role == KEY
    written = writer.matrix.shape(shapes[writer.matrix.parameter])[0]
    read = reader.matrix.shape(shapes[reader.matrix.parameter])[0 if key else 1]
    if read % heads or (written * heads) % read or heads % (groups := written * heads // read or heads + 1):
        return None
    return LayerPair(
        writer=_split(writer.matrix, groups, "rows"),
        reader=_split(reader.matrix, heads, "rows" if key else "columns"),
        reader_vectors="left" if key else "right",
    )


def _split(matrix: Matrix, heads: int, along: Literal["rows", "columns"]) -> Matrix:
    return replace(matrix, part=f"{matrix.part} by head".lstrip(), heads=heads, split=along)
