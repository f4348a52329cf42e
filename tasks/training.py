"""Training: a bare loop over steps, with recording passed in; resumes bit-identically after any death."""

import hashlib
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from models.experiment import Examples, Experiment, get_experiment
from models.run_spec import RunSpec, to_json
from models.schedules import checkpoint_steps, learning_rate_factor
from storage.checkpoints import (
    DamagedCheckpoint,
    Entry,
    Manifest,
    forget_state,
    read_checkpoint,
    read_manifest,
    read_state,
    write_checkpoint,
    write_manifest,
    write_state,
)
from storage.writer import BackgroundWriter
from tasks.environment import pick_device, versions
from tasks.examples import load_examples


class Diverged(Exception):
    """The loss became NaN or infinite: says which run and at which step."""


@dataclass(slots=True)
class Progress:
    """Where a training stands: the position that the next process continues from."""

    step: int = 0
    seconds: float = 0.0
    entries: tuple[Entry, ...] = ()


def epoch_order(seed: int, epoch: int, examples: int) -> Tensor:
    """The order of the examples in an epoch: a permutation drawn from a hash of (seed, epoch)."""
    digest = hashlib.sha256(f"{seed}/{epoch}".encode()).digest()
    generator = torch.Generator().manual_seed(int.from_bytes(digest[:8], "little") >> 1)
    return torch.randperm(examples, generator=generator)


class Batches:
    """The batch of any step; the last, partial batch of an epoch is kept. Full batches are not shuffled."""

    def __init__(self, spec: RunSpec, examples: Examples, steps_per_epoch: int) -> None:
        self._seed, self._size = spec.seed, spec.batch_size
        self._examples, self._per_epoch = examples, steps_per_epoch
        self._epoch, self._order = -1, torch.empty(0)

    def __call__(self, step: int) -> Examples:
        """The examples that the update after `step` finished updates learns from."""
        if self._size is None:
            return self._examples
        epoch, position = divmod(step, self._per_epoch)
        if epoch != self._epoch:
            order = epoch_order(self._seed, epoch, len(self._examples.targets))
            self._epoch, self._order = epoch, order.to(self._examples.targets.device)
        return self._examples.take(self._order[position * self._size : (position + 1) * self._size])


def make_optimizer(spec: RunSpec, net: nn.Module) -> torch.optim.Optimizer:
    """The spec's optimizer over all parameters, weight decay on each of them."""
    if spec.optimizer == "sgd":
        return torch.optim.SGD(
            net.parameters(), lr=spec.learning_rate, momentum=spec.momentum, weight_decay=spec.weight_decay
        )
    return torch.optim.AdamW(
        net.parameters(),
        lr=spec.learning_rate,
        betas=(spec.beta1, spec.beta2),
        eps=spec.epsilon,
        weight_decay=spec.weight_decay,
        fused=True,
    )


def run_steps(
    net: nn.Module,
    optimizer: torch.optim.Optimizer,
    batches: Callable[[int], Examples],
    loss_of: Callable[[Tensor, Examples], Tensor],
    rate_of: Callable[[int], float],
    start: int,
    stop: int,
) -> Tensor:
    """Make the updates start+1 .. stop; gives the last loss, or the first that is not finite.

    The loss is looked at on the device, so that the loop never waits for it: 0 * loss is NaN if it is not finite.
    """
    worst = torch.zeros((), device=next(net.parameters()).device)
    loss = worst
    for step in range(start, stop):
        for group in optimizer.param_groups:
            group["lr"] = rate_of(step)
        batch = batches(step)
        loss = loss_of(net(batch.inputs), batch)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        worst = worst + loss.detach() * 0
    return loss.detach() + worst


def train(spec: RunSpec, store: str, device: torch.device | None = None) -> Manifest:
    """Train a run to its end, from its newest state if there is one; gives the manifest written last.

    Weights and buffers are kept at every step of the schedule, optimizer and generator state for the newest.
    A finished run is left alone. On NaN or infinite loss the manifest says `failed`, with the good checkpoints.
    """
    experiment = get_experiment(spec.experiment)
    before = read_manifest(store, spec.experiment, spec.run_id)
    if before and before.status == "complete":
        return before
    if before and before.status == "damaged":
        forget_state(store, spec.experiment, spec.run_id)
    device = device or pick_device()
    net = experiment.net(spec).to(device).train()
    optimizer = make_optimizer(spec, net)
    data = load_examples(spec, store)["train"].to(device)
    progress = _resume(spec, store, net, optimizer) or Progress()
    reason = ""
    with BackgroundWriter() as writer:
        recorder = Recorder(spec, store, net, optimizer, writer, progress)
        try:
            _train_through(experiment, spec, net, optimizer, data, recorder)
        except Diverged as error:
            reason = str(error)
    manifest = Manifest(
        experiment=spec.experiment,
        run_id=spec.run_id,
        spec=to_json(spec),
        status="failed" if reason else "complete",
        reason=reason,
        checkpoints=tuple(progress.entries),
        device=str(device),
        threads=torch.get_num_threads(),
        seconds=round(progress.seconds, 3),
        versions=versions(),
    )
    write_manifest(store, manifest)
    return manifest


def _train_through(
    experiment: Experiment,
    spec: RunSpec,
    net: nn.Module,
    optimizer: torch.optim.Optimizer,
    data: Examples,
    recorder: "Recorder",
) -> None:
    """From checkpoint to checkpoint; Diverged where the loss stops being finite between two of them."""
    per_epoch = experiment.steps_per_epoch(spec, len(data.targets))
    batches = Batches(spec, data, per_epoch)
    here = recorder.progress.step
    if not recorder.progress.entries:
        recorder.record(0)
    for stop in (step for step in checkpoint_steps(spec, per_epoch) if step > here):
        loss = run_steps(
            net,
            optimizer,
            batches,
            lambda outputs, batch: experiment.loss(spec, outputs, batch),
            lambda step: spec.learning_rate * learning_rate_factor(spec, step, per_epoch),
            here,
            stop,
        )
        if not bool(torch.isfinite(loss)) or not _finite(net):
            raise Diverged(
                f"run {spec.run_id}: the loss became NaN or infinite between steps {here} and {stop}; "
                f"the checkpoint of step {here} is the last good one; try a smaller learning rate or weight decay"
            )
        recorder.record(stop)
        here = stop


def _finite(net: nn.Module) -> bool:
    return all(bool(torch.isfinite(parameter).all()) for parameter in net.parameters())


class Recorder:
    """Copies weights and state off the device and hands them to the background writer."""

    def __init__(
        self,
        spec: RunSpec,
        store: str,
        net: nn.Module,
        optimizer: torch.optim.Optimizer,
        writer: BackgroundWriter,
        progress: Progress,
    ) -> None:
        self.progress = progress
        self._spec, self._store, self._net = spec, store, net
        self._optimizer, self._writer = optimizer, writer
        self._since = time.monotonic()

    def record(self, step: int) -> None:
        """Queue the checkpoint of a step, and the state that the next process would continue from."""
        now = time.monotonic()
        seconds = self.progress.seconds + now - self._since
        self._since = now
        weights = {name: tensor.detach().cpu().clone() for name, tensor in self._net.state_dict().items()}
        state, body = pack_state(self._optimizer)
        self.progress.step, self.progress.seconds = step, seconds

        def write() -> None:
            where = (self._store, self._spec.experiment, self._spec.run_id, step)
            self.progress.entries += (write_checkpoint(*where, weights),)
            entries = [[e.step, e.bytes, e.sha256, e.header_bytes] for e in self.progress.entries]
            write_state(*where, state, {"step": step, "seconds": seconds, "entries": entries, **body})

        self._writer.submit(write)


def pack_state(optimizer: torch.optim.Optimizer) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Optimizer and generator state as named tensors and JSON, copied off the device."""
    plain = optimizer.state_dict()
    tensors = {
        f"optimizer/{index}/{key}": value.detach().cpu().clone()
        for index, values in plain["state"].items()
        for key, value in values.items()
        if isinstance(value, Tensor)
    }
    tensors["generator/cpu"] = torch.get_rng_state()
    if torch.cuda.is_available():
        tensors["generator/cuda"] = torch.cuda.get_rng_state()
    return tensors, {"optimizer": type(optimizer).__name__}


def load_state(optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Put back what `pack_state` took."""
    state: dict[int, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        kind, _, rest = name.partition("/")
        if kind == "optimizer":
            index, key = rest.split("/")
            state.setdefault(int(index), {})[key] = tensor
    groups = optimizer.state_dict()["param_groups"]
    optimizer.load_state_dict({"state": state, "param_groups": groups})
    torch.set_rng_state(tensors["generator/cpu"])
    if "generator/cuda" in tensors and torch.cuda.is_available():
        torch.cuda.set_rng_state(tensors["generator/cuda"])


def _resume(spec: RunSpec, store: str, net: nn.Module, optimizer: torch.optim.Optimizer) -> Progress | None:
    """Put the newest whole state into net and optimizer; None where training starts anew."""
    found = read_state(store, spec.experiment, spec.run_id)
    if found is None:
        return None
    tensors, body = found
    entries = tuple(Entry(step=s, bytes=b, sha256=h, header_bytes=n) for s, b, h, n in body["entries"])
    try:
        weights = read_checkpoint(store, spec.experiment, spec.run_id, entries[-1])
    except DamagedCheckpoint:
        return None
    net.load_state_dict(weights)
    load_state(optimizer, tensors)
    return Progress(step=body["step"], seconds=body["seconds"], entries=entries)
