"""Other programs' checkpoints as a series that is analysed like our own runs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from specdyn.storage.foreign.content import content_digests, known_digests
from specdyn.storage.foreign.found import Found
from specdyn.storage.foreign.weights import ForeignWeights
from specdyn.storage.identity import short_digest
from specdyn.storage.places import Store
from specdyn.tasks.spectra.analysis import Evaluate
from specdyn.tasks.spectra.network_layout import NetworkLayout


@dataclass(frozen=True, slots=True)
class ForeignSeries:
    """Checkpoints found at a URL; their tensors are read one at a time."""

    found: Found

    @property
    def name(self) -> str:
        """The URL."""
        return self.found.url

    @property
    def steps(self) -> tuple[int, ...]:
        """Steps, ascending."""
        return tuple(checkpoint.step for checkpoint in self.found.checkpoints)

    def weights(self, step: int) -> ForeignWeights:
        """The tensors of a step, loaded lazily."""
        return self.found.checkpoints[self.steps.index(step)].weights()

    def absent(self, step: int, layout: NetworkLayout) -> frozenset[str]:
        """Parameters of the layout that a checkpoint lacks or has in another shape."""
        shapes = self.weights(step).shapes
        return frozenset(entry.parameter for entry in layout.entries if shapes.get(entry.parameter) != entry.shape)

    def evaluator(self) -> Evaluate | None:
        """None: there is no data to evaluate the network on."""
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Contents:
    """Digests that determine the results of a series: for each checkpoint, of its own content and of others'."""

    place: str
    """Digest of the URL and of how layers are read; the name of the folder of results."""
    of: Mapping[int, Mapping[str, str]]
    """Digests by step and by what an analysis depends on (`Analysis.depends`)."""

    @property
    def results(self) -> str:
        """The id of all results together; the folder's name is before the slash."""
        return f"{self.place}/{short_digest([[step, dict(of)] for step, of in self.of.items()])}"


def contents_of(series: ForeignSeries, place: Sequence[object], digests: Sequence[str]) -> Contents:
    """The ids of results, from digests of the checkpoints and everything else that determines their matrices."""
    keys = [short_digest(d, c.choice.key) for d, c in zip(digests, series.found.checkpoints, strict=True)]
    of = {
        step: {
            "own": short_digest(key),
            "initial": short_digest(key, keys[0]),
            "previous": short_digest(key, keys[max(0, i - 1)], i == 0),
            "final": short_digest(key, keys[-1]),
            "any": short_digest(key, keys[0], keys[max(0, i - 1)], keys[-1], i == 0),
            "series": short_digest(keys, series.steps),
        }
        for i, (step, key) in enumerate(zip(series.steps, keys, strict=True))
    }
    return Contents(place=short_digest(series.name, *place), of=of)


def series_contents(series: ForeignSeries, place: Sequence[object], store: Store) -> Contents:
    """The ids of a series' results; reads files that the store does not know yet."""
    return contents_of(series, place, content_digests(series.found, store))


def known_contents(series: ForeignSeries, place: Sequence[object], store: Store) -> Contents | None:
    """The same, or None if the store does not know all of the series' files; writes nothing."""
    digests = known_digests(series.found, store)
    return None if digests is None else contents_of(series, place, digests)
