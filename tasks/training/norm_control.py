"""Norms of another run's matrices at every step, a control for effects of weight decay other than shrinking."""

import bisect
from collections.abc import Callable

import torch
from torch import Tensor, nn

from specdyn.models.spec.run_spec import RunSpec
from specdyn.storage.checkpoints import read_finished
from specdyn.storage.places import Store
from specdyn.tasks.identity import require_norm_run
from specdyn.tasks.training.optimizers import matrices


def norms_of_run(spec: RunSpec, store: Store, net: nn.Module) -> Callable[[int], Tensor]:
    """Norms of the matrices (in the network's order) of the spec's `norm_run` after a number of updates.

    Interpolated linearly between checkpoints, constant after the last. ValueError if that run is not finished, or has
    another network. Reads each of its checkpoints once.
    """
    manifest = require_norm_run(spec, store)
    names, device = list(matrices(net)), next(net.parameters()).device
    rows = []
    for step in manifest.steps:
        weights = read_finished(store, manifest, step)
        rows.append(torch.stack([weights[name].norm() for name in names]))
    norms, steps = torch.stack(rows).to(device), manifest.steps

    def at(step: int) -> Tensor:
        right = min(max(bisect.bisect_left(steps, step), 1), len(steps) - 1)
        share = min(max((step - steps[right - 1]) / (steps[right] - steps[right - 1]), 0.0), 1.0)
        return torch.lerp(norms[right - 1], norms[right], share)

    return at
