"""Records of found checkpoints: their files, step and reader."""

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
    """One checkpoint: its step, name and files."""

    step: int
    name: str
    urls: tuple[str, ...]
    bytes: int
    written: float
    """When it was written, in seconds since 1970; NaN if the store does not report it."""
    tag: str
    """Tags of its files from the listing: an ETag each, or times and inode."""
    folder: str
    """The folder that holds the files."""
    kind: Kind = "safetensors"
    choice: Choice = Choice()  # noqa: RUF009 - frozen
    """Which weights to use if a file holds several sets."""
    fault: str = ""
    """Why it cannot be read, judging by the names of its files; empty if it can."""

    def weights(self) -> ForeignWeights:
        """The tensors by name, loaded lazily; DamagedCheckpoint if the checkpoint is known to be incomplete."""
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
        """The `config.json` next to the weights; None if there is none."""
        url = f"{self.folder}/config.json"
        try:
            return as_object(url, objects.read(url))
        except FileNotFoundError:
            return None


@dataclass(frozen=True, slots=True)
class Found:
    """The checkpoints at a URL by ascending step, and the skipped names with reasons."""

    url: str
    checkpoints: tuple[ForeignCheckpoint, ...]
    skipped: tuple[tuple[str, str], ...]
    unit: Unit = "steps"
    """What the steps count."""
    repeated: tuple[str, ...] = ()
    """Skipped names whose step and content equal another's."""
    told: tuple[str, ...] = ()
    """Notes on non-obvious choices and on how steps were found."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Search:
    """How to search for checkpoints; empty values mean the usual rules."""

    pattern: str = ""
    """A regular expression whose first group, or whose groups step, epoch, iteration, have the numbers."""
    per_epoch: int = 0
    """Optimizer steps per epoch, to convert epochs to steps."""
    revisions: str = ""
    """A pattern for revisions of a Hub repository, such as step*."""
    choice: Choice = Choice()  # noqa: RUF009 - frozen
