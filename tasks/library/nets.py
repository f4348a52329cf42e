"""Loads the network of a run with the weights of a checkpoint."""

from typing import TYPE_CHECKING

from specdyn.models.spec.checks import require

if TYPE_CHECKING:
    from torch import nn


def load_net(store: str, run_id: str, step: int | None = None) -> "nn.Module":
    """The network of a run with its weights and buffers at a step, in evaluation mode, on the CPU.

    `run_id` may be a prefix; `step` defaults to the last checkpoint. The checkpoint is verified.
    ValueError if no run or several runs start with `run_id`, if the run is still in training, or if the step has no
    checkpoint; DamagedCheckpoint if the file is damaged.
    """
    from specdyn.models.experiments.base import get_experiment, read_spec
    from specdyn.storage.checkpoints import read_checkpoint, read_manifest
    from specdyn.storage.probe import existing_store
    from specdyn.tasks.identity import find_run

    place = existing_store(store)
    experiment, whole = find_run(run_id, place)
    run = place.run(experiment, whole)
    manifest = read_manifest(run)
    if manifest is None:
        raise ValueError(f"run {whole} of {experiment} is still in training; `specdyn status` shows how far it is")
    entries = {entry.step: entry for entry in manifest.checkpoints}
    last = max(entries)
    require(step is None or step in entries, "step", step, f"one of {', '.join(map(str, sorted(entries)))}")
    spec = read_spec(manifest.spec, experiment)
    net = get_experiment(experiment).net(spec)
    net.load_state_dict(read_checkpoint(run, entries[last if step is None else step]))
    return net.eval()
