"""Pair: two runs to connect, and how."""

import hashlib
from dataclasses import dataclass

import numpy as np

from specdyn.models.spec.checks import require
from specdyn.models.spec.run_spec import RunSpec

VERSION = 1
"""Increase when stored values change their meaning."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """Two finished runs of one network whose last checkpoints are connected."""

    a: RunSpec
    b: RunSpec
    kind: str
    """`within` a trunk, `across` trunks, or `perturbed`."""
    layerwise: bool = False
    """Whether to interpolate each layer separately, too."""
    curve_steps: int = 0
    """Updates of the control point of a curve between the ends; 0 means no curve."""
    points: int = 11
    """Number of points on the line, evenly spaced, including the ends."""

    def __post_init__(self) -> None:
        require(self.points >= 3, "points", self.points, "3 or more")
        require(self.curve_steps >= 0, "curve_steps", self.curve_steps, "an integer of 0 or more")

    @property
    def alphas(self) -> tuple[float, ...]:
        """Positions on the line, from 0 to 1."""
        return tuple(np.linspace(0, 1, self.points).tolist())

    @property
    def pair_id(self) -> str:
        """First 12 hex digits of a hash of the two runs, how they are connected, and the version."""
        text = f"{self.a.run_id}/{self.b.run_id}/{self.layerwise}/{self.curve_steps}/{self.points}/{VERSION}"
        return hashlib.sha256(text.encode()).hexdigest()[:12]
