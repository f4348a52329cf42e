"""Pure functions of the step: learning rate, weight decay, and when to keep a checkpoint (METHOD 0.2, 1.1-1.5)."""

import math
from collections.abc import Sequence

from specdyn.models.spec.run_spec import RunSpec


def batches_per_epoch(spec: RunSpec, examples: int) -> int:
    """Batches in one pass over that many training examples, including a partial last one."""
    return -(-examples // (spec.batch_size or examples))


def batches_per_step(spec: RunSpec, examples: int) -> int:
    """Batches whose gradients make up one update: `accumulate`, or all of an epoch with fewer."""
    return min(spec.accumulate, batches_per_epoch(spec, examples))


def steps_per_epoch(spec: RunSpec, examples: int) -> int:
    """Updates in one epoch, a whole number of windows of batches (METHOD 0.2)."""
    return batches_per_epoch(spec, examples) // batches_per_step(spec, examples)


def examples_seen(spec: RunSpec, step: int, examples: int) -> int:
    """Training examples in the batches of `step` updates, each counted as often as it was in one."""
    per_epoch, of_step = steps_per_epoch(spec, examples), batches_per_step(spec, examples)
    size = of_step * (spec.batch_size or examples)
    epochs, more = divmod(step, per_epoch)
    return epochs * min(examples, per_epoch * size) + more * size


def learning_rate_factor(spec: RunSpec, step: int, steps_per_epoch: int) -> float:
    """Factor on the learning rate for the update that follows `step` finished updates (METHOD 1.1, 1.2, 1.4, 1.5).

    `warmup` is min(step / warmup, 1), so the first update has rate 0; `warmup-cosine` counts steps too, all others
    epochs. `milestones` divides by ten at each of them, `cosine-to-zero` follows half a cosine over the whole run.
    """
    epoch = step // steps_per_epoch
    epochs = math.ceil(spec.steps / steps_per_epoch)
    schedule = spec.schedule
    match schedule.name:
        case "warmup":
            return min(step / max(schedule.warmup, 1), 1.0)
        case "warmup-cosine":
            return _cosine(step, schedule.warmup, schedule.period)
        case "cosine":
            return _cosine(epoch, schedule.warmup, epochs)
        case "cosine-to-zero":
            return 0.5 * (math.cos(math.pi * epoch / epochs) + 1)
        case "milestones" | "step":
            drops = schedule.milestones if schedule.name == "milestones" else (10_000, 20_000, 30_000)
            return 0.1 ** sum(epoch >= drop for drop in drops)
        case _:
            return 1.0


def step_coordinates(spec: RunSpec, steps: Sequence[int], examples: int) -> dict[str, tuple[str, Sequence[float]]]:
    """Coordinates of the steps of a run with that many training examples: name, dimension and a value for each step.

    `epoch` counts passes over the examples and may be fractional; `learning_rate_at` is that of the update that
    follows the step, with the factor of the schedule. A branch counts from the start of its trunk, as its steps do.
    """
    per_epoch = steps_per_epoch(spec, examples)
    rates = [spec.optimizer.learning_rate * learning_rate_factor(spec, step, per_epoch) for step in steps]
    return {
        "epoch": ("step", [step / per_epoch for step in steps]),
        "examples_seen": ("step", [examples_seen(spec, step, examples) for step in steps]),
        "learning_rate_at": ("step", rates),
    }


def weight_decay_at(spec: RunSpec, step: int) -> float:
    """Weight decay of the update that follows `step` finished updates: 0 outside decay_from .. decay_until."""
    decay = spec.decay
    ended = decay.until is not None and step >= decay.until
    return 0.0 if ended or step < decay.after else decay.weight_decay


def _cosine(t: int, warmup: int, period: int) -> float:
    """Linear warm-up, then half a cosine from 1 to 0.1; t and period in epochs or steps."""
    if t < warmup:
        return t / warmup
    # The published schedule also drops to its floor at the very end of warm-up; kept for reproduction.
    if t == warmup or t >= period:
        return 0.1
    return 0.45 * (math.cos(math.pi * (t - warmup) / period) + 1) + 0.1


def checkpoint_steps(spec: RunSpec, steps_per_epoch: int) -> tuple[int, ...]:
    """Steps with a checkpoint: 0, early ones in the first epoch, every n-th, the last.

    The E = `early_checkpoints` early ones are at q, 2q, ..., Eq with q = steps_per_epoch // (E + 1); none for q = 0. A
    branch has the step at which it starts and those after it.
    """
    count = spec.record.early_checkpoints
    q = steps_per_epoch // (count + 1)
    early = {q * i for i in range(1, count + 1) if 0 < q * i < steps_per_epoch}
    regular = range(0, spec.steps + 1, spec.record.checkpoint_every)
    first = 0 if spec.start is None else spec.start.step
    return tuple(sorted(step for step in {first, *early, *regular, spec.steps} if first <= step <= spec.steps))
