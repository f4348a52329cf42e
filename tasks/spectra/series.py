"""A series of checkpoints of one network, of any origin, read one at a time and ahead of need.

It is analysed in blocks; this module also determines, without torch, which other checkpoints a block needs.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypeVar

from specdyn.models.experiments.base import experiment_of, read_spec
from specdyn.storage.checkpoints import Manifest, read_checkpoint
from specdyn.storage.places import Store
from specdyn.tasks.spectra.analysis import Analysis, Evaluate

if TYPE_CHECKING:
    from torch import Tensor

    from specdyn.tasks.spectra.network_layout import NetworkLayout

EVERY = ("initial", "final", "previous")
"""All checkpoints with which one may be compared."""
K = TypeVar("K")
V = TypeVar("V")


class Series(Protocol):
    """Checkpoints by step, ascending."""

    @property
    def name(self) -> str:
        """Its name in errors."""
        ...

    @property
    def steps(self) -> tuple[int, ...]: ...

    def weights(self, step: int) -> "Mapping[str, Tensor]":
        """Tensors by parameter, possibly loaded lazily."""
        ...

    def absent(self, step: int, layout: "NetworkLayout") -> frozenset[str]:
        """Parameters of the layout that a checkpoint lacks or has in another shape."""
        ...

    def evaluator(self) -> Evaluate | None:
        """Metrics of the network at any weights; None without data."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSeries:
    """The checkpoints of a run of specdyn."""

    store: Store
    manifest: Manifest

    @property
    def name(self) -> str:
        """The run's id."""
        return f"run {self.manifest.run_id}"

    @property
    def steps(self) -> tuple[int, ...]:
        """Steps of the manifest."""
        return self.manifest.steps

    def weights(self, step: int) -> "Mapping[str, Tensor]":
        """Weights and buffers, verified; one request."""
        entry = self.manifest.checkpoints[self.steps.index(step)]
        return read_checkpoint(self.store.run_of(self.manifest), entry)

    def absent(self, step: int, layout: "NetworkLayout") -> frozenset[str]:
        """Empty: every checkpoint of a run has the same parameters."""
        return frozenset()

    def evaluator(self) -> Evaluate:
        """Metrics on the data of the run's spec, which stays on the device."""
        from specdyn.tasks.evaluation.environment import pick_device
        from specdyn.tasks.evaluation.evaluator import Evaluator
        from specdyn.tasks.evaluation.examples import load_examples

        spec = read_spec(self.manifest.spec, self.manifest.experiment)
        experiment = experiment_of(spec)
        return Evaluator(experiment, spec, experiment.net(spec), load_examples(spec, self.store), pick_device())


class Deferred(Mapping[str, "Tensor"]):
    """Weights that are all read on first access."""

    def __init__(self, read: "Callable[[], Mapping[str, Tensor]]") -> None:
        self._read, self._weights = read, None

    def _loaded(self) -> "Mapping[str, Tensor]":
        if self._weights is None:
            self._weights = self._read()  # type: ignore[assignment]
        return self._weights  # type: ignore[return-value]

    def __getitem__(self, parameter: str) -> "Tensor":
        return self._loaded()[parameter]

    def __iter__(self) -> Iterator[str]:
        return iter(self._loaded())

    def __len__(self) -> int:
        return len(self._loaded())


def ahead(keys: Iterable[K], read: Callable[[K], V]) -> Iterator[tuple[K, V]]:
    """Each key with its value; reads the next one while the caller works on this one."""
    with ThreadPoolExecutor(1) as reader:
        waiting = None
        for key in keys:
            upcoming = key, reader.submit(read, key)
            if waiting is not None:
                yield waiting[0], waiting[1].result()
            waiting = upcoming
        if waiting is not None:
            yield waiting[0], waiting[1].result()


def need_vectors(analyses: Iterable[Analysis]) -> bool:
    """Whether any of the analyses needs singular vectors."""
    return any(analysis.needs_vectors for analysis in analyses)


def needed(steps: tuple[int, ...], block: tuple[int, ...], compared: Collection[str] = EVERY) -> list[int]:
    """Steps whose factors a block gets: those with which its checkpoints are `compared`, and its own last.

    These are the run's first and last, and the one before the block.
    """
    of = {"initial": steps[0], "final": steps[-1], "previous": steps[max(0, steps.index(block[0]) - 1)]}
    return sorted({*(of[which] for which in compared), block[-1]})


def anchor_steps(
    steps: tuple[int, ...], blocks: Iterable[tuple[int, ...]], compared: Collection[str] = EVERY
) -> list[int]:
    """The first and last step, and those before each block: shared checkpoints are decomposed separately.

    Always includes both ends, even if one is the last step of the only block, as every block compares its checkpoints
    with both.
    """
    shared = {step for block in blocks for step in needed(steps, block, compared) if step != block[-1]}
    ends = {"initial": steps[0], "final": steps[-1]}
    return sorted(shared | {step for which, step in ends.items() if which in compared})
