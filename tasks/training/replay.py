"""Produces states that a finished run did not keep, by retraining it to the steps where branches start."""

from collections.abc import Sequence

import torch

from specdyn.models.nets.decay_sums import is_of_decay
from specdyn.models.spec.run_spec import RunSpec
from specdyn.storage.checkpoints import (
    DamagedCheckpoint,
    keep_state,
    kept_states,
    read_finished,
    read_kept_state,
    read_manifest,
)
from specdyn.storage.places import Store
from specdyn.tasks.evaluation.environment import pick_device
from specdyn.tasks.training.numerics import numerics
from specdyn.tasks.training.state import load_state, pack_state
from specdyn.tasks.training.training import begin, make_loop


def keep_states(spec: RunSpec, store: Store, steps: Sequence[int]) -> int:
    """Keep the states of a finished run at steps with checkpoints; returns the number of updates made.

    Starts from the nearest earlier state that was kept. ValueError for a step without a checkpoint; DamagedCheckpoint
    if the weights differ from the checkpoint's, for example on another kind of machine.
    """
    manifest = read_manifest(store.run_of(spec))
    for step in steps:
        if manifest is None or step not in manifest.steps:
            listed = ", ".join(map(str, manifest.steps if manifest else ())) or "none"
            raise ValueError(f"step {step} of run {spec.run_id} has no checkpoint; those it has: {listed}")
    there = kept_states(store.run_of(spec))
    missing = sorted(set(steps) - there.keys())
    if manifest is None or not missing:
        return 0
    device, before = pick_device(), [step for step in there if step <= missing[0]]
    with numerics(spec, device):
        loop = make_loop(spec, store, device, manifest.forward)
        if before:
            here = max(before)
            load_state(loop.updater, *read_kept_state(there[here]))
            loop.net.load_state_dict(read_finished(store, manifest, here))
        else:
            here = begin(spec, store, loop).step
        start = here
        for step in missing:
            loop.run(here, step)
            expected = read_finished(store, manifest, step)
            # The effect of decay is accumulated from a different step here than originally.
            weights = {name: now for name, now in loop.net.state_dict().items() if not is_of_decay(name)}
            if any(not torch.equal(now.cpu(), expected[name]) for name, now in weights.items()):
                raise DamagedCheckpoint(
                    f"run {spec.run_id} retrained to step {step} differs from its checkpoint of that step, as this "
                    f"machine ({device}) computes different bits; retrain the trunk here, or branch on that machine"
                )
            keep_state(store.run_of(spec), step, *pack_state(loop.updater))
            here = step
    return missing[-1] - start
