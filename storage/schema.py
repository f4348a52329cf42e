"""Names of dimensions and the declaration of a stored variable."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

SCHEMA_VERSION = 1

SPLITS = ("train", "val")
TOP_RANKS = 64
"""Ranks kept of a matrix that compares singular vectors with singular vectors."""
SCORE_RANKS = 10
"""Leading ranks averaged into an agreement or alignment score (METHOD 5)."""

GROUPS = {"layer": "layers", "pair": "pairs", "attention": "attention"}
"""The first dimension of a variable decides its group; all others lie in `metrics`."""
METRICS_GROUP = "metrics"

PROVENANCE = "provenance"
"""The attribute `role` of a coordinate that says something of a run and decides nothing in it, as its processor."""

DIMENSIONS = {
    "run": "training run",
    "step": "optimizer steps",
    "layer": "parameter analysed as a matrix",
    "pair": "layer that writes -> layer that reads",
    "attention": "pair of layers compared head by head",
    "head": "attention head",
    "part": "kernel position, or gate, that is compared by itself",
    "rank": "index of the singular value, 1 is the largest",
    "row": "rank at this checkpoint",
    "column": "rank at the final checkpoint",
    "final_rank": "rank at the final checkpoint",
    "fraction": "fraction of the energy",
    "null": "matrix that stands for chance: Gaussian of the same shape, or the final weights shuffled",
    "component": "principal component of the trajectory",
    "split": "part of the data",
    "kept": "singular values kept",
    "way": "which singular values are kept",
    "share": "fraction of the singular values kept",
    "decile": "tenth of the singular values removed, 1 has the largest",
    "side": "singular vectors compared",
    "subspace": "leading ranks that span the subspaces compared",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Variable:
    """One array of the results: what allocates it, checks it and labels it."""

    dims: tuple[str, ...]
    long_name: str
    units: str = "1"
    dtype: str = "float32"
    flags: tuple[str, ...] = ()
    """Meanings of the values 0, 1, ... of an integer variable (CF flag_meanings); 0 is `missing`."""
    chunks: Mapping[str, int] = field(default_factory=dict)
    """Inner chunk length of the sweep cube along a dimension; others are read whole."""
    about: str = ""
    """Formula or section of METHOD that defines it."""

    @property
    def group(self) -> str:
        """The group of a run store or cube in which the variable lies."""
        return GROUPS.get(self.dims[0], METRICS_GROUP)

    @property
    def fill(self) -> float | int:
        """What stands where nothing was computed: NaN, or 0 for integers."""
        return float("nan") if np.dtype(self.dtype).kind == "f" else 0

    @property
    def attributes(self) -> dict[str, object]:
        """CF attributes of the stored array."""
        attributes: dict[str, object] = {"long_name": self.long_name, "units": self.units}
        if self.about:
            attributes["comment"] = self.about
        if self.flags:
            attributes["flag_values"] = list(range(len(self.flags)))
            attributes["flag_meanings"] = " ".join(self.flags)
        return attributes

    def check(self, name: str, values: np.ndarray, sizes: Mapping[str, int]) -> None:
        """Raise ValueError unless the values have the declared shape, `step` apart."""
        expected = tuple(sizes[dim] for dim in self.dims if dim != "step")
        if values.shape != expected:
            dims = ", ".join(dim for dim in self.dims if dim != "step")
            raise ValueError(f"variable {name!r}: expected ({dims}) = {expected}, got {values.shape}")
