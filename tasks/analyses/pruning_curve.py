"""Metrics with a growing share of the singular values kept, chosen in five ways (CLAIMS 2.7, 5.14)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import numpy as np

from specdyn.storage.schema import Variable
from specdyn.tasks.spectra.analysis import Analysis, CheckpointView, Values

if TYPE_CHECKING:
    from torch import Tensor

SHARES = (0.1, 0.25, 0.5, 0.75, 0.9)
WAYS = ("top", "bottom", "random", "random_directions", "energy_matched")


def compute(view: CheckpointView) -> Values:
    """Every metric for each way and share on every split; the last layer is not pruned, BatchNorm is re-estimated."""
    from specdyn.tasks.spectra import truncation

    ways: dict[str, Callable[[float], truncation.Keep]] = {
        "top": truncation.top,
        "bottom": lambda share: truncation.bottom(1 - share),
        "random": truncation.random_components,
        "random_directions": truncation.random_directions,
        "energy_matched": truncation.energy_matched,
    }
    now = view.now

    def kept(way: str, share: float) -> Mapping[str, Tensor]:
        return truncation.keep_in_all(now.weights, view.layers, now.factors, ways[way](share))

    measured = [[view.evaluate(kept(way, share), True) for share in SHARES] for way in WAYS]
    return {
        f"curve_{name}": np.array([[values[name] for values in of_way] for of_way in measured])
        for name in measured[0][0]
    }


ANALYSIS = Analysis(
    name="pruning_curve",
    version=1,
    of="checkpoint",
    needs_data=True,
    default=False,
    variables={
        "curve_{metric}": Variable(
            dims=("way", "share", "split", "step"),
            long_name="{metric} with a share of the singular values",
            about="of every layer but the last: the first ceil(share R) components, the others than the first "
            "ceil((1 - share) R), random ones, a projection on random directions, or random ones scaled to the "
            "norm of the first; CLAIMS 5.14",
        ),
    },
    compute=compute,
    labels={"way": WAYS, "share": SHARES},
)
