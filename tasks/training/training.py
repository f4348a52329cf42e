"""The training loop, with recording passed in; resumes bitwise identically after being killed."""

import functools
import logging
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from specdyn.models import generators
from specdyn.models.datasets.decoders.examples import Examples
from specdyn.models.experiments.base import Experiment, experiment_of
from specdyn.models.nets.transformer import TransformerNet
from specdyn.models.spec.run_spec import RunSpec, to_json
from specdyn.models.spec.schedules import batches_per_step, checkpoint_steps, learning_rate_factor, steps_per_epoch
from specdyn.storage.access.writer import BackgroundWriter
from specdyn.storage.checkpoints import (
    CheckpointEntry,
    DamagedCheckpoint,
    Manifest,
    forget_state,
    keep_state,
    mark_damaged,
    read_checkpoint,
    read_manifest,
    read_state,
    write_checkpoint,
    write_manifest,
    write_state,
)
from specdyn.storage.places import Run, Store
from specdyn.tasks.evaluation.environment import pick_device, processor, versions
from specdyn.tasks.evaluation.examples import load_examples
from specdyn.tasks.identity import origins_of, outdated
from specdyn.tasks.ledger.metering import wrote
from specdyn.tasks.training.branches import begin_branch, mask_of
from specdyn.tasks.training.norm_control import norms_of_run
from specdyn.tasks.training.numerics import autocast, choose_forward, compiled, numerics
from specdyn.tasks.training.optimizers import Updater
from specdyn.tasks.training.state import load_state, noise_seed, pack_state

log = logging.getLogger("specdyn.training")


@dataclass(slots=True)
class Progress:
    """The progress of a training, from which the next process continues."""

    step: int = 0
    seconds: float = 0.0
    entries: tuple[CheckpointEntry, ...] = ()
    origins: dict[str, str] = field(default_factory=dict)
    """The runs from which it started, with the digests of their checkpoints."""


def epoch_order(seed: int, epoch: int, examples: int) -> Tensor:
    """The order of the examples in an epoch: a permutation drawn from a hash of (seed, epoch)."""
    generator = torch.Generator().manual_seed(generators.seed_of(f"{seed}/{epoch}"))
    return torch.randperm(examples, generator=generator)


class Batches:
    """The batches of a run, numbered from its start; full batches are not shuffled.

    An epoch includes a partial last batch; if updates take several batches, it ends with the last whole window.
    """

    def __init__(self, spec: RunSpec, examples: Examples) -> None:
        self._seed, self._size, self._examples = spec.order_seed, spec.batch_size, examples
        count = len(examples.targets)
        self._per_epoch = steps_per_epoch(spec, count) * batches_per_step(spec, count)
        self._epoch, self._order = -1, torch.empty(0)

    def __call__(self, number: int) -> Examples:
        """The batch of that number."""
        if self._size is None:
            return self._examples
        epoch, position = divmod(number, self._per_epoch)
        if epoch != self._epoch:
            order = epoch_order(self._seed, epoch, len(self._examples.targets))
            self._epoch, self._order = epoch, order.to(self._examples.targets.device)
        return self._examples.take(self._order[position * self._size : (position + 1) * self._size])


class Loop:
    """The training of a network, independent of what is recorded."""

    def __init__(
        self, experiment: Experiment, spec: RunSpec, net: nn.Module, data: Examples, forward: str | None = None
    ) -> None:
        """`forward` is how outputs are computed (see `choose_forward`); None chooses it."""
        self._experiment, self._spec, self.net = experiment, spec, net
        self.compute_by(forward or choose_forward(spec, net, len(data.targets)))
        self.device = data.targets.device
        self._batches = Batches(spec, data)
        self._parts = batches_per_step(spec, len(data.targets))
        self._autocast = autocast(spec, self.device)
        self.per_epoch = steps_per_epoch(spec, len(data.targets))
        self.updater = Updater(spec, net)

    def compute_by(self, forward: str) -> None:
        """From now on, compute outputs by the network's `layers` or its `tables`."""
        self.forward = forward
        if isinstance(self.net, TransformerNet):
            self.net.train_by_tables = forward == "tables"

    def run(self, start: int, stop: int) -> Tensor:
        """Make the updates start+1 .. stop; returns the last loss, or a non-finite one if there was any.

        The loss is checked on the device, so that the loop never waits for it: 0 * loss is NaN if it is not finite.
        """
        self.updater.begin(start)
        worst = loss = torch.zeros((), device=self.device)
        for step in range(start, stop):
            rate = self._spec.optimizer.learning_rate * learning_rate_factor(self._spec, step, self.per_epoch)
            loss = self.updater(step, rate, functools.partial(self._losses, step), self._parts)
            worst = worst + loss * 0
        return loss + worst

    def _losses(self, step: int) -> Iterator[Tensor]:
        for number in range(step * self._parts, (step + 1) * self._parts):
            batch = self._batches(number)
            with self._autocast:
                loss = self._experiment.loss(self._spec, self.net(batch.inputs), batch)
            yield loss


def train(
    spec: RunSpec,
    store: Store,
    keep: Sequence[int] = (),
    device: torch.device | None = None,
    retry_failed: bool = False,
) -> Manifest:
    """Train a run completely, from its newest state if there is one; returns the manifest, which is written last.

    A branch starts at its trunk's checkpoint. At the steps in `keep`, the state is kept so that branches can start
    there.

    Weights and buffers are kept at every step of the schedule, the training state only for the newest. A finished run
    is left alone. On a NaN or infinite loss the manifest says `failed`, with the good checkpoints; such a run is left
    alone too, unless `retry_failed` continues it from its last good checkpoint.
    """
    before, origins = read_manifest(store.run_of(spec)), origins_of(spec, store)
    old = outdated(before, origins) if before and before.status != "damaged" else ""
    if before and not old and (before.status == "complete" or (before.status == "failed" and not retry_failed)):
        return before
    if before and old:
        mark_damaged(store, before, old)
    if before and (old or before.status == "damaged"):
        forget_state(store.run_of(spec))
    device = device or pick_device()
    with numerics(spec, device), BackgroundWriter() as writer:
        loop = make_loop(spec, store, device)
        progress = _resume(spec, store, loop, origins) or begin(spec, store, loop)
        progress.origins, kept = origins, len(progress.entries)
        reason = _train_through(spec, loop, Recorder(store.run_of(spec), loop, writer, progress, keep))
    wrote(sum(entry.bytes for entry in progress.entries[kept:]))
    manifest = Manifest(
        experiment=spec.experiment,
        run_id=spec.run_id,
        spec=to_json(spec),
        status="failed" if reason else "complete",
        reason=reason,
        checkpoints=tuple(progress.entries),
        device=str(device),
        processor=processor(device),
        threads=torch.get_num_threads(),
        forward=loop.forward,
        seconds=round(progress.seconds, 3),
        versions=versions(),
        origins=origins,
    )
    write_manifest(store, manifest)
    return manifest


def make_loop(spec: RunSpec, store: Store, device: torch.device, forward: str | None = None) -> Loop:
    """The loop of a run with initial weights, norms and masks; torch's generator is seeded for the run's start.

    `forward` as of `Loop`.
    """
    experiment = experiment_of(spec)
    net = compiled(spec, experiment.net(spec).to(device).train())
    loop = Loop(experiment, spec, net, load_examples(spec, store)["train"].to(device), forward)
    generators.seed(noise_seed(spec), device)
    if mask := mask_of(spec, store):
        loop.updater.hold(mask)
    if spec.norms.run:
        loop.updater.hold_norms(norms_of_run(spec, store, net))
    return loop


def begin(spec: RunSpec, store: Store, loop: Loop) -> Progress:
    """The start of a run without a state: at new weights, or at its trunk's checkpoint."""
    if spec.start is None:
        return Progress()
    begin_branch(spec, store, loop.net, loop.updater)
    return Progress(step=spec.start.step)


def _train_through(spec: RunSpec, loop: Loop, recorder: "Recorder") -> str:
    """Train from checkpoint to checkpoint to the end; returns why the run could not continue, or an empty text."""
    here = recorder.progress.step
    threads = torch.get_num_threads()
    log.info("run %s: training from step %d on %s with %d threads", spec.run_id, here, loop.device, threads)
    if not recorder.progress.entries:
        recorder.record(here)
    for stop in (step for step in checkpoint_steps(spec, loop.per_epoch) if step > here):
        loss = loop.run(here, stop)
        if not all(bool(torch.isfinite(numbers).all()) for numbers in (loss, *loop.net.parameters())):
            return (
                f"run {spec.run_id}: the loss became NaN or infinite between steps {here} and {stop}; "
                f"the checkpoint of step {here} is the last good one; try a smaller learning rate or weight decay"
            )
        recorder.record(stop)
        log.info("run %s: step %d of %d, training loss %.6g", spec.run_id, stop, spec.steps, float(loss))
        here = stop
    return ""


class Recorder:
    """Copies weights and state to the CPU and passes them to the background writer."""

    def __init__(
        self,
        run: Run,
        loop: Loop,
        writer: BackgroundWriter,
        progress: Progress,
        keep: Sequence[int] = (),
    ) -> None:
        self.progress, self._keep = progress, keep
        self._run, self._loop, self._writer = run, loop, writer
        self._since = time.monotonic()

    def record(self, step: int) -> None:
        """Queue the checkpoint of a step, and the state from which the next process would continue."""
        now = time.monotonic()
        seconds = self.progress.seconds + now - self._since
        self._since = now
        weights = {name: tensor.detach().cpu().clone() for name, tensor in self._loop.net.state_dict().items()}
        state, metadata = pack_state(self._loop.updater)
        self.progress.step, self.progress.seconds = step, seconds

        def write() -> None:
            self.progress.entries += (write_checkpoint(self._run, step, weights),)
            entries = [[e.step, e.bytes, e.sha256, e.header_bytes] for e in self.progress.entries]
            reached = {"step": step, "seconds": seconds, "entries": entries, "origins": self.progress.origins}
            reached["forward"] = self._loop.forward
            write_state(self._run, step, state, {**reached, **metadata})
            if step in self._keep:
                keep_state(self._run, step, state, metadata)

        self._writer.submit(write)


def _resume(spec: RunSpec, store: Store, loop: Loop, origins: dict[str, str]) -> Progress | None:
    """Load the newest intact state into the loop; None if training must start over.

    It must if a run from which this one started has different weights now.
    """
    found = read_state(store.run_of(spec))
    if found is None:
        return None
    tensors, metadata = found
    if metadata.get("origins", origins) != origins:
        return None
    entries = tuple(CheckpointEntry(step=s, bytes=b, sha256=h, header_bytes=n) for s, b, h, n in metadata["entries"])
    try:
        weights = read_checkpoint(store.run_of(spec), entries[-1])
    except DamagedCheckpoint:
        return None
    loop.net.load_state_dict(weights)
    load_state(loop.updater, tensors, metadata)
    loop.compute_by(metadata.get("forward", "layers"))  # a run must use one method throughout
    return Progress(step=metadata["step"], seconds=metadata["seconds"], entries=entries)
