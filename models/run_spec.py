"""RunSpec: everything that decides what a training run computes, and the run_id made of it."""

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from models.checks import require, require_declared_types, require_known

OPTIMIZERS = ("adamw", "sgd")
SCHEDULES = ("constant", "warmup", "cosine", "step")


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSpec:
    """One training run. A field left at its default is not part of the run_id, so defaults never change."""

    experiment: str
    """Name of a module in models/experiments."""
    net: Any
    """The architecture: a frozen dataclass that the experiment accepts."""
    data: Any
    """The data set and its split: a frozen dataclass that the experiment accepts."""
    steps: int
    """Optimizer steps."""
    batch_size: int | None = None
    """Examples a step; None is the whole training set."""
    optimizer: str = "adamw"
    learning_rate: float = 1e-3
    weight_decay: float = 0.0
    """Decoupled for adamw, an L2 term for sgd; applies to every parameter."""
    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-8
    momentum: float = 0.0
    schedule: str = "constant"
    warmup: int = 0
    """Steps (warmup) or epochs (cosine) of linear warm-up."""
    checkpoint_every: int = 100
    """Steps between checkpoints; step 0 and the last step are always kept."""
    early_checkpoints: int = 0
    """Checkpoints inside the first epoch, evenly spaced."""
    eval_batch_size: int = 16384
    """Metrics are the unweighted mean over batches of this size (METHOD 4.1)."""
    eval_examples: int | None = None
    """Training examples that metrics are measured on, a fixed random subset; None is all of them."""
    seed: int = 0

    def __post_init__(self) -> None:
        require_declared_types(self)
        require_known("optimizer", self.optimizer, OPTIMIZERS)
        require_known("schedule", self.schedule, SCHEDULES)
        for field in ("steps", "checkpoint_every", "eval_batch_size"):
            require(getattr(self, field) >= 1, field, getattr(self, field), "an integer of 1 or more")
        for field in ("weight_decay", "momentum", "warmup", "early_checkpoints", "seed"):
            value = getattr(self, field)
            require(0 <= value < float("inf"), field, value, "a finite number of 0 or more")
        for field in ("learning_rate", "epsilon"):
            value = getattr(self, field)
            require(0 < value < float("inf"), field, value, "a finite number above 0")
        for field in ("beta1", "beta2"):
            require(0 <= getattr(self, field) < 1, field, getattr(self, field), "a number in [0, 1)")
        require(self.batch_size is None or self.batch_size >= 1, "batch_size", self.batch_size, "None or 1 or more")

    @property
    def run_id(self) -> str:
        """First 12 hexadecimal digits of the sha256 of the canonical JSON."""
        return hashlib.sha256(to_json(self).encode()).hexdigest()[:12]


def _as_plain(value: Any) -> Any:
    """A dataclass as {"type": name, **fields off their default}; numbers in one canonical form."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {
            field.name: _as_plain(getattr(value, field.name))
            for field in dataclasses.fields(value)
            if field.default is dataclasses.MISSING or getattr(value, field.name) != field.default
        }
        return {"type": type(value).__name__, **fields}
    return value


def to_json(spec: RunSpec) -> str:
    """The spec's canonical JSON: sorted keys, fields at their default left out."""
    return json.dumps(_as_plain(spec), sort_keys=True, separators=(",", ":"), allow_nan=False)


def from_json(text: str, kinds: Mapping[str, type]) -> RunSpec:
    """The spec that `to_json` wrote; `kinds` maps the type names of net and data to their classes."""
    known = {"RunSpec": RunSpec, **kinds}

    def build(plain: Any) -> Any:
        if not isinstance(plain, dict):
            return plain
        fields = dict(plain)
        name = fields.pop("type", None)
        require_known("type in a run spec", name, known)
        return known[name](**{key: build(value) for key, value in fields.items()})

    spec = build(json.loads(text))
    if not isinstance(spec, RunSpec):
        raise ValueError(f"expected the JSON of a RunSpec, got that of {type(spec).__name__}")
    return spec


def hyperparameters(spec: RunSpec) -> dict[str, int | float | str | bool]:
    """Every scalar of the spec under its own name, net and data flattened; None becomes 0."""
    flat: dict[str, int | float | str | bool] = {"architecture": type(spec.net).__name__}
    for part in (spec, spec.data, spec.net):
        for field in dataclasses.fields(part):
            value = getattr(part, field.name)
            if not dataclasses.is_dataclass(value):
                flat[field.name] = 0 if value is None else _declared(field, value)
    return flat


def _declared(field: "dataclasses.Field[Any]", value: Any) -> int | float | str | bool:
    return float(value) if field.type in (float, "float") else value
