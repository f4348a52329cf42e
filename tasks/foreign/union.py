"""All tensors that a series has at any of its steps."""

import torch

from specdyn.storage.access.objects import StoreError
from specdyn.storage.checkpoints import DamagedCheckpoint
from specdyn.storage.foreign.weights import stripped
from specdyn.tasks.foreign.series import ForeignSeries


def all_tensors(series: ForeignSeries) -> tuple[dict[str, tuple[int, ...]], dict[str, torch.dtype]]:
    """Shapes and types by name: those of the first checkpoint that has a tensor, in its order.

    Checkpoints that cannot be read are left to the audit; where none can, the first error is raised. A checkpoint
    whose names differ by a wrapper's prefix alone adds none.
    """
    shapes: dict[str, tuple[int, ...]] = {}
    dtypes: dict[str, torch.dtype] = {}
    failed: Exception | None = None
    for step in series.steps:
        try:
            weights = series.weights(step)
            found = weights.shapes
        except (DamagedCheckpoint, StoreError) as error:
            failed = failed or error
            continue
        known = set(stripped(shapes).values())
        for name, short in stripped(found).items():
            if name not in shapes and short not in known:
                shapes[name], dtypes[name] = found[name], weights.dtypes[name]
    if failed is not None and not shapes:
        raise failed
    return shapes, dtypes
