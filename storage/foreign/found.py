"""Checkpoints that were found: which files they are, of which step, and what reads them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from specdyn.storage.access import objects
from specdyn.storage.checkpoints import DamagedCheckpoint
from specdyn.storage.foreign.adapters import AdapterWeights
from specdyn.storage.foreign.distributed import DistributedWeights
from specdyn.storage.foreign.folders import Kind
from specdyn.storage.foreign.pickled import PickledWeights, as_object
from specdyn.storage.foreign.safe import SafeWeights
from specdyn.storage.foreign.steps import SAFE, Unit
from specdyn.storage.foreign.weights import Choice, ForeignWeights


@dataclass(frozen=True, slots=True, kw_only=True)
class ForeignCheckpoint:
    """One checkpoint: its step, the name it was found by, and the objects it lies in."""

    step: int
    name: str
    urls: tuple[str, ...]
    bytes: int
    written: float
    """When it was written, in seconds since 1970; NaN where the store does not tell."""
    tag: str
    """What a listing says of the content without reading it: of each file an ETag, or its times and its place."""
    folder: str
    """The folder that holds the files."""
    kind: Kind = "safetensors"
    choice: Choice = Choice()  # noqa: RUF009 - frozen
    """What is taken where a file holds several things."""
    fault: str = ""
    """Why it cannot be read, as far as the names of its files tell."""

    def weights(self) -> ForeignWeights:
        """The tensors by name, each read when it is asked for; DamagedCheckpoint where it is known not to be whole."""
        if self.fault:
            raise DamagedCheckpoint(self.fault)
        if self.kind == "distributed":
            return DistributedWeights(self.folder)
        if self.kind == "adapter":
            *files, config = self.urls
            return AdapterWeights(self._files(tuple(files)), as_object(config, objects.read(config)), files[0])
        return self._files(self.urls)

    def _files(self, urls: tuple[str, ...]) -> ForeignWeights:
        return SafeWeights(urls) if urls[0].endswith(SAFE) else PickledWeights(urls, self.choice)

    def config(self) -> Mapping[str, Any] | None:
        """The `config.json` beside the weights; None where there is none."""
        url = f"{self.folder}/config.json"
        try:
            return as_object(url, objects.read(url))
        except FileNotFoundError:
            return None


@dataclass(frozen=True, slots=True)
class Found:
    """The checkpoints of a place by ascending step, and the names that were passed over with the reason."""

    url: str
    checkpoints: tuple[ForeignCheckpoint, ...]
    skipped: tuple[tuple[str, str], ...]
    unit: Unit = "steps"
    """What the numbers count."""
    repeated: tuple[str, ...] = ()
    """The names among them that were passed over as another has the same step and content."""
    told: tuple[str, ...] = ()
    """What was chosen, and how steps were found, where it is not plain."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Search:
    """How checkpoints are looked for; empty values leave it to the usual rules."""

    pattern: str = ""
    """A regular expression whose first group, or whose groups step, epoch, iteration, have the numbers."""
    per_epoch: int = 0
    """Optimizer steps of an epoch, with which epochs become steps."""
    revisions: str = ""
    """A pattern of revisions of a Hub repository, such as step*."""
    choice: Choice = Choice()  # noqa: RUF009 - frozen
