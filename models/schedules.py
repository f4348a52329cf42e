"""Pure functions of the step: learning-rate factor and checkpoint steps (METHOD 0.2, 1.1)."""

import math

from models.run_spec import RunSpec


def learning_rate_factor(spec: RunSpec, step: int, steps_per_epoch: int) -> float:
    """Factor on the learning rate for the update that follows `step` finished updates.

    `warmup` is min(step / warmup, 1), so the first update has rate 0. `cosine` and `step` count epochs.
    """
    epoch = step // steps_per_epoch
    match spec.schedule:
        case "warmup":
            return min(step / max(spec.warmup, 1), 1.0)
        case "cosine":
            return _cosine(epoch, spec.warmup, math.ceil(spec.steps / steps_per_epoch))
        case "step":
            return 0.1 ** sum(epoch >= drop for drop in (10_000, 20_000, 30_000))
        case _:
            return 1.0


def _cosine(epoch: int, warmup: int, epochs: int) -> float:
    if epoch < warmup:
        return epoch / warmup
    # The published schedule falls to its floor at the very end of warm-up too; kept as it is.
    if epoch == warmup or epoch >= epochs:
        return 0.1
    return 0.45 * (math.cos(math.pi * (epoch - warmup) / epochs) + 1) + 0.1


def checkpoint_steps(spec: RunSpec, steps_per_epoch: int) -> tuple[int, ...]:
    """Steps at which weights are kept: 0, early ones inside the first epoch, every n-th, the last.

    The `early_checkpoints` E lie at q, 2q, ..., Eq with q = steps_per_epoch // (E + 1), and vanish for q = 0.
    """
    q = steps_per_epoch // (spec.early_checkpoints + 1)
    early = {q * i for i in range(1, spec.early_checkpoints + 1) if 0 < q * i < steps_per_epoch}
    regular = range(0, spec.steps + 1, spec.checkpoint_every)
    return tuple(sorted(step for step in {*early, *regular, spec.steps} if step <= spec.steps))
