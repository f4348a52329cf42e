"""Resources of each task of a flow."""

import math
from dataclasses import dataclass
from typing import Annotated

from annotated_types import Ge

from specdyn.flows.shown import Shown
from specdyn.models.spec.checks import require

LEAST_GPUS = 0.0001
"""The smallest share of a GPU that Ray can allocate."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Resources:
    """Resources of each task (one training, one block of checkpoints)."""

    cpus: Annotated[int, Ge(1), Shown(title="CPUs", about="CPU cores (and threads) per task.")] = 1
    gpus: Annotated[
        Annotated[float, Ge(0)] | None,
        Shown(
            title="GPUs",
            about="GPUs per task; a fraction shares one.",
            default="one if the cluster has GPUs",
        ),
    ] = None
    cpu_if_no_gpu: Annotated[
        bool,
        Shown(title="CPU if no GPU", about="Use the CPU if the requested GPUs are not available, instead of refusing."),
    ] = False

    def __post_init__(self) -> None:
        require(self.cpus >= 1, "cpus", self.cpus, "an integer of 1 or more")
        # Ray counts GPUs in ten-thousandths, and does not allow fractions above 1.
        share = self.gpus is None or self.gpus == 0 or LEAST_GPUS <= self.gpus <= 1
        whole = self.gpus is not None and 1 < self.gpus < math.inf and self.gpus % 1 == 0
        allowed = f"None, 0, a share from {LEAST_GPUS} to 1, or a whole number"
        require(share or whole, "gpus", self.gpus, allowed)
