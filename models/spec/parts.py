"""Parts of a RunSpec. A field may declare another public name; no two settings share a name."""

import dataclasses
import math
import numbers
from dataclasses import dataclass

from specdyn.models.spec.checks import (
    require,
    require_amounts,
    require_counts,
    require_declared_types,
    require_each,
    require_known,
)

OPTIMIZERS = ("adamw", "muon", "sam", "sgd")
SCHEDULES = ("constant", "cosine", "cosine-to-zero", "milestones", "step", "warmup", "warmup-cosine")
DECAYS = ("l2", "nuclear")
DECAYED = ("all", "attention", "hidden", "matrices", "non-attention")
PRECISIONS = ("bfloat16", "float16", "float32")
NORM_CONTROLS = ("initial", "none")


@dataclass(frozen=True, slots=True, kw_only=True)
class Optimizer:
    """The update rule of the weights."""

    name: str = dataclasses.field(default="adamw", metadata={"name": "optimizer"})
    """`muon` updates hidden matrices by Muon and all else by AdamW; `sam` is sharpness-aware SGD."""
    learning_rate: float = 1e-3
    """Learning rate before the factor of the schedule."""
    beta1: float = 0.9
    """Beta1 of adamw, and the momentum of muon."""
    beta2: float = 0.999
    """Beta2 of adamw: decay of the mean of squared gradients."""
    epsilon: float = 1e-8
    """Epsilon of adamw: added to the root of that mean."""
    momentum: float = 0.0
    """Momentum of sgd and sam; 0 means none."""
    nesterov: bool = False
    """Use Nesterov momentum with sgd and sam."""
    sam_radius: float = 0.05
    """Radius of sam: how far it ascends before it computes the gradient of the update."""
    clip_norm: float | None = None
    """Bound on the norm of the whole gradient; None means no bound."""

    def __post_init__(self) -> None:
        require_declared_types(self)
        if self.clip_norm is not None:
            finite = isinstance(self.clip_norm, numbers.Real) and 0 < self.clip_norm < math.inf
            require(finite, "clip_norm", self.clip_norm, "None or a finite number above 0")
            object.__setattr__(self, "clip_norm", float(self.clip_norm))
        require_known("optimizer", self.name, OPTIMIZERS)
        above = ("learning_rate", "epsilon", "sam_radius")
        require_each(self, above, lambda value: 0 < value < math.inf, "a finite number above 0")
        require_each(self, ("beta1", "beta2", "momentum"), lambda value: 0 <= value < 1, "a number in [0, 1)")
        momentum = self.name in ("sgd", "sam") and self.momentum > 0
        require(momentum or not self.nesterov, "nesterov", True, "sgd or sam with a momentum above 0")


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """The factor on the learning rate during the run."""

    name: str = dataclasses.field(default="constant", metadata={"name": "schedule"})
    """`constant`, or how the learning rate falls: at `milestones`, as a `cosine`, or after a warm-up."""
    warmup: int = 0
    """Steps (warmup, warmup-cosine) or epochs (cosine) of linear warm-up; 0 means none."""
    milestones: tuple[int, ...] = ()
    """Epochs at which the schedule `milestones` divides the learning rate by ten."""
    period: int = 0
    """Steps of half a cosine in the schedule `warmup-cosine`."""

    def __post_init__(self) -> None:
        require_declared_types(self)
        given = self.milestones
        listed = isinstance(given, tuple | list) and all(isinstance(m, numbers.Real) and m % 1 == 0 for m in given)
        require(listed and sorted({0, *given}) == [0, *given], "milestones", given, "ascending epochs, 1 or later")
        object.__setattr__(self, "milestones", tuple(int(epoch) for epoch in given))
        require_known("schedule", self.name, SCHEDULES)
        require_amounts(self, "warmup", "period")
        if self.name == "milestones":
            require(bool(self.milestones), "milestones", self.milestones, "one or more for schedule='milestones'")
        if self.name == "warmup-cosine":
            later = f"a number above warmup={self.warmup} for schedule='warmup-cosine'"
            require(self.period > self.warmup, "period", self.period, later)


@dataclass(frozen=True, slots=True, kw_only=True)
class Decay:
    """Weight decay: how strong, of which parameters, and when."""

    weight_decay: float = 0.0
    """Weight decay: decoupled for adamw and muon, an L2 term for sgd and sam; see `decay`; 0 means off."""
    kind: str = dataclasses.field(default="l2", metadata={"name": "decay"})
    """`nuclear` shrinks all singular values of a matrix by learning rate times weight decay, whatever the optimizer;
    other parameters then do not decay."""
    on: str = dataclasses.field(default="all", metadata={"name": "weight_decay_on"})
    """Parameters that decay: `all`, all `matrices`, the `hidden` ones (no embedding, not the last), those of
    `attention`, or all matrices but these (`non-attention`)."""
    after: int = dataclasses.field(default=0, metadata={"name": "decay_from"})
    """Finished updates after which weight decay begins; 0 means from the start."""
    until: int | None = dataclasses.field(default=None, metadata={"name": "decay_until"})
    """Finished updates after which weight decay ends; None means never."""

    def __post_init__(self) -> None:
        require_declared_types(self)
        require_known("decay", self.kind, DECAYS)
        require_known("weight_decay_on", self.on, DECAYED)
        require_amounts(self, "weight_decay", "after")
        later = self.until is None or self.until > self.after
        require(later, "decay_until", self.until, f"None, or a step after decay_from={self.after}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Norms:
    """Whether the Frobenius norm of every matrix is reset after each update, and to what."""

    control: str = dataclasses.field(default="none", metadata={"name": "norm_control"})
    """`initial` holds each norm at its initial value."""
    run: str = dataclasses.field(default="", metadata={"name": "norm_run"})
    """A finished run of the same network: each norm is held at that run's norm at the same step, interpolated linearly
    between its checkpoints. A decayed run here and `weight_decay=0` reproduce its norms without its decay."""

    def __post_init__(self) -> None:
        require_known("norm_control", self.control, NORM_CONTROLS)
        require(not self.run or self.control == "none", "norm_run", self.run, "none beside norm_control")


@dataclass(frozen=True, slots=True, kw_only=True)
class Numerics:
    """Numerical settings of the updates."""

    precision: str = "float32"
    """Precision of products in forward and backward; weights, optimizer and evaluation stay in float32."""
    tf32: bool = False
    """Use TensorFloat-32 products on GPUs that have it."""
    compile: bool = False
    """Train the network with `torch.compile`."""
    deterministic: bool = True
    """Use only bitwise reproducible kernels; a network that lacks one on a GPU (CTC, for example) is refused."""

    def __post_init__(self) -> None:
        require_declared_types(self)
        require_known("precision", self.precision, PRECISIONS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """What the run stores, and how its metrics are measured."""

    checkpoint_every: int = 100
    """Steps between checkpoints; step 0 and the last step are always kept."""
    early_checkpoints: int = 0
    """Checkpoints inside the first epoch, evenly spaced."""
    eval_batch_size: int = 16384
    """Metrics are the unweighted mean over batches of this size (METHOD 4.1)."""
    eval_examples: int | None = None
    """Training examples used for metrics, a fixed random subset; None means all of them."""
    decay: bool = dataclasses.field(default=False, metadata={"name": "record_decay"})
    """Store with each checkpoint what weight decay did to every matrix since the previous one: this doubles the size
    of checkpoints, or triples it if decay passes through momentum."""

    def __post_init__(self) -> None:
        require_declared_types(self)
        require_counts(self, "checkpoint_every", "eval_batch_size")
        require_amounts(self, "early_checkpoints")
        require_each(self, ("eval_examples",), lambda count: count is None or count >= 1, "None or 1 or more")
