"""Keeps factors of a series' checkpoints between calls, so that a growing series is cheap to analyse.

Analyses that compare all checkpoints with the last one must be repeated for each new last checkpoint, which needs
the singular vectors of all checkpoints, though these have not changed.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import quote

from specdyn.storage.access import objects

if TYPE_CHECKING:
    from specdyn.tasks.spectra.network_layout import NetworkLayout
    from specdyn.tasks.spectra.series import Series

LARGEST = 2**32
"""Most bytes of the factors of all checkpoints for which they are kept."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """The location of a series' factors in the store."""

    url: str
    contents: Mapping[int, str]
    """Digest of the checkpoint at each step."""
    everything: bool
    """Whether to keep the factors of all checkpoints, or only of the first and the last."""

    def place(self, step: int, vectors: bool) -> str:
        """The folder of a checkpoint's factors."""
        return f"{self.url}/{self.contents[step]}/{_kind(vectors)}"

    def whole(self, blocks: Iterable[tuple[int, ...]]) -> set[int]:
        """The steps of these blocks whose factors are to be stored."""
        return {step for block in blocks for step in block} if self.everything else set()

    def there(self, series: "Series", layout: "NetworkLayout", steps: Collection[int], vectors: bool) -> set[int]:
        """The steps whose factors are all stored; one listing."""
        names = set(objects.names_below(self.url)) if objects.exists(self.url) else set()
        found: set[int] = set()
        for step in steps:
            present = layout.without(series.absent(step, layout))
            matrices = present.matrices if vectors else present.layers
            folder = f"{self.contents[step]}/{_kind(vectors)}"
            if all(f"{folder}/{quote(matrix.name, safe='')}.safetensors" in names for matrix in matrices):
                found.add(step)
        return found

    def prune(self) -> None:
        """Remove factors of checkpoints that are no longer in the series, or that are too large to keep."""
        steps = sorted(self.contents)
        current = {self.contents[step] for step in (steps if self.everything else (steps[0], steps[-1]))}
        for name in objects.names(self.url):
            if name not in current:
                objects.delete(f"{self.url}/{name}")


def fits(layout: "NetworkLayout", checkpoints: int) -> bool:
    """Whether the factors of that many checkpoints, in float32, are small enough to keep."""
    shapes = layout.shapes
    return 4 * checkpoints * sum(min(m, n) * (m + n + 1) for m, n in shapes) <= LARGEST


def _kind(vectors: bool) -> str:
    return "factors" if vectors else "values"
