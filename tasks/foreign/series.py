"""Checkpoints that other programs wrote, as a series that is analysed like our own runs."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass

from specdyn.storage.foreign.content import content_digests, known_digests
from specdyn.storage.foreign.find import Found
from specdyn.storage.foreign.weights import ForeignWeights
from specdyn.storage.identity import short_digest
from specdyn.storage.places import Store
from specdyn.tasks.spectra.analysis import Evaluate
from specdyn.tasks.spectra.network_layout import NetworkLayout


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
