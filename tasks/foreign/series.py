"""Checkpoints that other programs wrote, as a series that is analysed like our own runs."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace

import torch

from specdyn.models.nets.matrices import LayerPair, Matrix
from specdyn.models.spec.checks import require
from specdyn.storage.foreign.content import content_digests, known_digests
from specdyn.storage.foreign.find import Found
from specdyn.storage.foreign.weights import ForeignWeights
from specdyn.storage.identity import short_digest
from specdyn.storage.places import Store
from specdyn.tasks.foreign.names import BUFFERS, FUSED, TRANSPOSED
from specdyn.tasks.spectra.analysis import Evaluate
from specdyn.tasks.spectra.network_layout import NetworkLayout, foreign_layout


@dataclass(frozen=True, slots=True)
class ForeignSeries:
    """Checkpoints found somewhere; their tensors are read one at a time."""

    found: Found

    @property
    def name(self) -> str:
        """Where they lie."""
        return self.found.url

    @property
    def steps(self) -> tuple[int, ...]:
        """Steps read from the names, ascending."""
        return tuple(checkpoint.step for checkpoint in self.found.checkpoints)

    def weights(self, step: int) -> ForeignWeights:
        """The tensors of a step, each read when it is asked for."""
        return self.found.checkpoints[self.steps.index(step)].weights()

    def evaluator(self) -> Evaluate | None:
        """None: there is no data to evaluate the network on."""
        return None


def read_layout(series: ForeignSeries, heads: int = 0, transposed: str = TRANSPOSED) -> NetworkLayout:
    """The layers of a series by all the tensors that it has: consecutive ones that fit are paired.

    With `heads` the queries and keys of fused projections, and what each head writes, are compared head by head.
    `transposed` is a regular expression that finds transposed convolutions by name.
    """
    require(heads >= 0, "heads", heads, "an integer of 0 or more")
    try:
        pattern = re.compile(transposed)
    except re.error as error:
        raise ValueError(f"transposed={transposed!r} is not a regular expression: {error}") from None
    from specdyn.tasks.foreign.union import all_tensors

    shapes, dtypes = all_tensors(series)
    layout = foreign_layout(
        shapes,
        skipped_tensors(dtypes),
        [name for name, shape in shapes.items() if len(shape) > 2 and pattern.search(name.lower())],
    )
    return replace(layout, pairs=(*layout.pairs, *attention_pairs(layout, heads)))


def series_id(series: ForeignSeries, layout: NetworkLayout, store: Store) -> str:
    """The identity of what is measured of a series: its place, steps and content, and how its layers are looked at.

    So other options, as far as they make other matrices or pairs of the tensors, are other results. Files that the
    store does not know yet are read.
    """
    return _identity(series, layout, content_digests(series.found, store))


def known_id(series: ForeignSeries, layout: NetworkLayout, store: Store) -> str | None:
    """The same identity, or None where the store does not know all of the series' files; nothing is written."""
    digests = known_digests(series.found, store)
    return None if digests is None else _identity(series, layout, digests)


def _identity(series: ForeignSeries, layout: NetworkLayout, digests: Sequence[str]) -> str:
    content = list(zip(series.steps, digests, strict=True))
    layers, pairs = [asdict(layer) for layer in layout.layers], [asdict(pair) for pair in layout.pairs]
    return short_digest(series.name, content, layout.shapes, layers, pairs)


def skipped_tensors(dtypes: Mapping[str, torch.dtype]) -> dict[str, str]:
    """Tensors that are no weights, with the reason."""
    skipped = {
        name: f"of type {str(d).removeprefix('torch.')}" for name, d in dtypes.items() if not d.is_floating_point
    }
    named = {name: "a buffer by its name, which is not trained" for name in dtypes if BUFFERS.search(name)}
    return {**named, **skipped}


def attention_pairs(layout: NetworkLayout, heads: int) -> tuple[LayerPair, ...]:
    """The pairs within fused projections, and from their values to the layer that follows."""
    pairs: list[LayerPair] = []
    shapes = {entry.parameter: entry.shape for entry in layout.entries}
    for layer, after in zip(layout.layers, [*layout.layers[1:], None], strict=True):
        rows, width = layer.shape(shapes[layer.parameter])
        if not FUSED.search(layer.parameter) or rows != 3 * width:
            continue
        if after is not None and after.shape(shapes[after.parameter])[1] == width:
            pairs.append(LayerPair(writer=_third(layer, "value", width), reader=after))
        if heads:
            require(width % heads == 0, "heads", heads, f"a divisor of {width}, the width of {layer.parameter}")
            query, key = (_third(layer, part, width, heads) for part in ("query", "key"))
            pairs.append(LayerPair(writer=key, reader=query, reader_vectors="left"))
    return tuple(pairs)


def _third(fused: Matrix, part: str, width: int, heads: int = 0) -> Matrix:
    start = ("query", "key", "value").index(part) * width
    return Matrix(parameter=fused.parameter, part=part, rows=(start, start + width), heads=heads)
