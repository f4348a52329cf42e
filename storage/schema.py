"""Names of dimensions and the declaration of a stored variable."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

SCHEMA_VERSION = 2

SPLITS = ("train", "val")
COUNT = "int32"
"""Dtype of stored counts; missing ones are NO_COUNT, which xarray shows as NaN."""
NO_COUNT = -1
TOP_RANKS = 64
"""Ranks kept of a matrix that compares singular vectors pairwise."""
SCORE_RANKS = 10
"""Leading ranks averaged into an agreement or alignment score (METHOD 5)."""

GROUPS = {"layer": "layers", "pair": "pairs", "attention": "attention"}
"""The group of a variable by its first dimension; all others are in `metrics`."""
METRICS_GROUP = "metrics"
RUNS_GROUP = "runs"
"""The group of a cube with all settings of every run, and the sources of its values."""
LIVE = ("status", "computed_on", "results", "parts", "contents", "trained", "objects")
"""Columns of that group that change after their row was created."""

STATUSES = ("planned", "partial", "done", "failed", "damaged")
"""Status of a run in a cube: nothing, some or all measured, diverged, or damaged."""
MEASURED = frozenset({"partial", "done", "damaged"})
"""Statuses of runs that may have values."""

PROVENANCE = "provenance"
"""The attribute `role` of a coordinate that describes a run without identifying it, such as its processor."""

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
    "projection": "queries, keys or values of a joint projection",
    "portion": "part of an update",
    "window_rank": "index of the singular value of a window of updates, 1 is the largest",
    "split": "part of the data",
    "kept": "singular values kept",
    "way": "which singular values are kept",
    "share": "fraction of the singular values kept",
    "decile": "tenth of the singular values removed, 1 has the largest",
    "control": "how the random half of the singular values is kept",
    "side": "singular vectors compared",
    "subspace": "leading ranks that span the subspaces compared",
}

SHORT_NAME = "short_name"
COORDINATES = {
    "rows": ("output directions", "rows of the matrix"),
    "columns": ("input directions", "columns of the matrix"),
    "made": ("how the parameter is made a matrix", ""),
    "role": ("what the layer does", ""),
    SHORT_NAME: ("name of the layer, cut to what tells it apart", ""),
    "kind": (
        "what the layer belongs to",
        "embedding, attention, mlp, conv, recurrent or output; empty where not known",
    ),
    "depth": (
        "layers before it",
        "on the longest way by pairs of which one feeds the other; 0 is the first, missing where no pair has it",
    ),
    "writer": ("layer that writes", ""),
    "reader": ("layer that reads", ""),
    "epoch": ("passes over the training examples", "0 is the start"),
    "examples_seen": ("training examples in the updates so far", "each counted as often as it was used"),
    "learning_rate_at": ("learning rate of the update that follows", "with the factor of the schedule"),
}
"""Coordinates besides dimensions and settings: what each is, and what its values mean."""

STEP_UNITS = {
    "steps": DIMENSIONS["step"],
    "epochs": "epochs",
    "tokens": "tokens",
    "checkpoints": "checkpoints in their order",
}
"""What `step` counts, by the attribute `unit` of a cube; optimizer steps without it."""


class OutOfRange(ValueError):
    """A number does not fit into the dtype used; the message says which number, and of what."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Variable:
    """The declaration of one array of the results, by which it is allocated, checked and labelled."""

    dims: tuple[str, ...]
    long_name: str
    units: str = "1"
    dtype: str = "float32"
    flags: tuple[str, ...] = ()
    """Meanings of the values 0, 1, ... of an integer variable (CF flag_meanings); 0 is `missing`."""
    chunks: Mapping[str, int] = field(default_factory=dict)
    """Chunk length in the cube by dimension; other dimensions are not split."""
    about: str = ""
    """Formula, or section of METHOD, that defines it."""
    constants: Mapping[str, Any] = field(default_factory=dict)
    """Further attributes: thresholds and the meaning of values."""

    @property
    def group(self) -> str:
        """The group of a cube that holds the variable."""
        return GROUPS.get(self.dims[0], METRICS_GROUP) if self.dims else METRICS_GROUP

    @property
    def fill(self) -> float | int:
        """The fill value where nothing was computed: NaN, 0 for flags, -1 for counts."""
        if np.dtype(self.dtype).kind == "f":
            return float("nan")
        return 0 if self.flags else NO_COUNT

    @property
    def attributes(self) -> dict[str, object]:
        """CF attributes of the stored array."""
        attributes: dict[str, object] = {"long_name": self.long_name, "units": self.units, **self.constants}
        if self.about:
            attributes["comment"] = self.about
        if self.flags:
            attributes["flag_values"] = list(range(len(self.flags)))
            attributes["flag_meanings"] = " ".join(self.flags)
        elif np.dtype(self.dtype).kind == "i":
            attributes["_FillValue"] = self.fill
        return attributes

    def stored(self, values: np.ndarray, dtype: np.dtype[Any] | None = None) -> np.ndarray:
        """The values in the declared or the given dtype, with its fill value for missing ones.

        A count may be passed as a float, with NaN for a missing one; ValueError if it is not a whole number.
        """
        dtype = np.dtype(self.dtype) if dtype is None else dtype
        if dtype.kind == values.dtype.kind or self.flags:
            return values.astype(dtype, copy=False)
        if dtype.kind == "f":
            return np.where(values == self.fill, np.nan, values).astype(dtype)
        known = ~np.isnan(values)
        if (values[known] != np.rint(values[known])).any():
            raise ValueError(f"{self.long_name}: expected whole numbers, got {values[known][:5].tolist()}")
        return np.where(known, values, self.fill).astype(dtype)

    def check(self, name: str, values: np.ndarray, sizes: Mapping[str, int]) -> None:
        """Raise ValueError unless the values have the declared shape, `step` apart."""
        expected = tuple(sizes[dim] for dim in self.dims if dim != "step")
        if values.shape != expected:
            dims = ", ".join(dim for dim in self.dims if dim != "step")
            raise ValueError(f"variable {name!r}: expected ({dims}) = {expected}, got {values.shape}")
