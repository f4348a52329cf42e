"""Determines split points: given as steps or epochs, or chosen among the trunk's checkpoints."""

from collections.abc import Sequence

from specdyn.models.spec.checks import require
from specdyn.models.spec.run_spec import RunSpec
from specdyn.models.spec.schedules import checkpoint_steps
from specdyn.storage.places import Store
from specdyn.tasks.plan.cost import steps_of_an_epoch

NEAR = 0.01
"""How far an epoch may be from a checkpoint, in epochs: checkpoints within an epoch are at whole steps."""


def split_steps(
    spec: RunSpec,
    store: Store,
    splits: Sequence[int] | None,
    count: int,
    epochs: Sequence[float] | None = None,
    fields: tuple[str, str] = ("splits", "split_epochs"),
) -> tuple[int, ...]:
    """Split points: the given ones, as steps or epochs, or `count` of the trunk's checkpoints except the last.

    By default, half of them are in the first epoch, including step 0, as far as there are checkpoints; the others are
    evenly spaced from the end of that epoch on. Ten for VGG-16 are those of the paper. ValueError names a step or epoch
    without a checkpoint, or given twice; `fields` are the parameters' names for steps and epochs.
    """
    require(splits is None or epochs is None, fields[1], epochs, f"none together with {fields[0]}={splits}")
    require(count >= 1, "split_count", count, "an integer of 1 or more")
    per_epoch = steps_of_an_epoch(spec, store)
    there = checkpoint_steps(spec, per_epoch)[:-1]
    if epochs is not None:
        return _each_once(fields[1], epochs, [_at_epoch(fields[1], epoch, there, per_epoch) for epoch in epochs])
    if splits is None:
        return _chosen(there, per_epoch, count)
    for step in splits:
        listed = f"checkpoints of the trunk before its last: {', '.join(map(str, there))}"
        require(step in there, fields[0], step, listed)
    return _each_once(fields[0], splits, splits)


def rewind_step(spec: RunSpec, store: Store, step: int | None, epoch: float | None) -> int:
    """The rewind step of tickets: as given, or the first checkpoint after an epoch."""
    steps = None if step is None else [step]
    epochs = None if epoch is None else [epoch]
    return split_steps(spec, store, steps, 2, epochs, ("rewind", "rewind_epoch"))[-1]


def _each_once(field: str, given: Sequence[float], steps: Sequence[int]) -> tuple[int, ...]:
    require(len(set(steps)) == len(steps) > 0, field, list(given), "one or more, each step once")
    return tuple(sorted(steps))


def _at_epoch(field: str, epoch: float, there: Sequence[int], per_epoch: int) -> int:
    """The checkpoint at an epoch; ValueError names the nearest ones if there is none."""
    nearest = sorted(there, key=lambda step: abs(step / per_epoch - epoch))[:2]
    named = " and ".join(f"{step / per_epoch:.6g} (step {step})" for step in sorted(nearest))
    expected = f"an epoch with a checkpoint before the trunk's last; the nearest: {named}"
    require(abs(nearest[0] / per_epoch - epoch) <= NEAR, field, epoch, expected)
    return nearest[0]


def _chosen(there: Sequence[int], per_epoch: int, count: int) -> tuple[int, ...]:
    early = [step for step in there if step < per_epoch]
    late = [step for step in there if step >= per_epoch]
    first = _spaced(early, max(count - count // 2, count - len(late)))
    return tuple(sorted({*first, *_spaced(late, count - len(first))}))


def _spaced(steps: Sequence[int], count: int) -> list[int]:
    """At most `count` of the steps, evenly spaced, including the first and the last."""
    if count >= len(steps):
        return list(steps)
    return [steps[round(i * (len(steps) - 1) / max(count - 1, 1))] for i in range(count)]
