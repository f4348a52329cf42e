"""RunSpec: everything that decides what a training run computes, and the run_id made of it."""

import dataclasses
import hashlib
import json
import math
import numbers
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from specdyn.models.spec.checks import require, require_declared_types, require_known, require_seed
from specdyn.models.spec.start import Perturbation, StartFrom, Ticket

OPTIMIZERS = ("adamw", "muon", "sam", "sgd")
SCHEDULES = ("constant", "cosine", "cosine-to-zero", "milestones", "step", "warmup", "warmup-cosine")
DECAYED = ("all", "attention", "hidden", "matrices", "non-attention")
PRECISIONS = ("bfloat16", "float16", "float32")
NORM_CONTROLS = ("initial", "none")


NAMES = {
    "optimizer": OPTIMIZERS,
    "schedule": SCHEDULES,
    "precision": PRECISIONS,
    "weight_decay_on": DECAYED,
    "norm_control": NORM_CONTROLS,
}
"""Fields that hold one of a few names."""
NOT_SET = "not set"
"""How a setting reads that a run does not have."""


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
    """Examples a batch; None is the whole training set."""
    optimizer: str = "adamw"
    """`muon` moves hidden matrices by Muon and all else by AdamW; `sam` is sharpness-aware SGD."""
    learning_rate: float = 1e-3
    weight_decay: float = 0.0
    """Decoupled for adamw and muon, an L2 term for sgd and sam."""
    beta1: float = 0.9
    """Of adamw, and the momentum of muon."""
    beta2: float = 0.999
    epsilon: float = 1e-8
    momentum: float = 0.0
    schedule: str = "constant"
    warmup: int = 0
    """Steps (warmup, warmup-cosine) or epochs (cosine) of linear warm-up."""
    checkpoint_every: int = 100
    """Steps between checkpoints; step 0 and the last step are always kept."""
    early_checkpoints: int = 0
    """Checkpoints inside the first epoch, evenly spaced."""
    eval_batch_size: int = 16384
    """Metrics are the unweighted mean over batches of this size (METHOD 4.1)."""
    eval_examples: int | None = None
    """Training examples that metrics are measured on, a fixed random subset; None is all of them."""
    seed: int = 0
    accumulate: int = 1
    """Batches an update; an epoch has a whole number of updates, and the batches left over are not used."""
    clip_norm: float | None = None
    """Bound on the norm of the whole gradient; None is no bound."""
    precision: str = "float32"
    """Of the products in forward and backward; weights, optimizer and evaluation stay in float32."""
    milestones: tuple[int, ...] = ()
    """Epochs at which the schedule `milestones` divides the learning rate by ten."""
    period: int = 0
    """Steps of half a cosine in the schedule `warmup-cosine`."""
    nesterov: bool = False
    """Nesterov's form of the momentum of sgd and sam."""
    sam_radius: float = 0.05
    """How far sam moves up the gradient before it takes the gradient to go down by."""
    weight_decay_on: str = "all"
    """Parameters that decay: `all`, all `matrices`, the `hidden` ones (no embedding, not the last), those of
    `attention`, or all matrices but these (`non-attention`)."""
    decay_from: int = 0
    """Finished updates after which weight decay begins."""
    decay_until: int | None = None
    """Finished updates after which weight decay ends; None is never."""
    norm_control: str = "none"
    """`initial` holds the Frobenius norm of every matrix at its initial value after each update."""
    norm_run: str = ""
    """A finished run of the same network: the norm of every matrix is held at that run's at the same step, between
    its checkpoints on a straight line. With a decayed run and no weight decay: its norms without its decay."""
    tf32: bool = False
    """Products in TensorFloat-32 on GPUs that have it."""
    compile: bool = False
    """Train the network as `torch.compile` makes it."""
    deterministic: bool = True
    """Only kernels that give the same bits again; on a GPU a network is refused where one has none, as CTC."""

    start: StartFrom | None = None
    """Where the run begins, if not at new weights: then steps are counted from the trunk's first."""

    def __post_init__(self) -> None:
        require_declared_types(self)
        self._hold_optional_types()
        for field, known in NAMES.items():
            require_known(field, getattr(self, field), known)
        for field in ("steps", "checkpoint_every", "eval_batch_size", "accumulate"):
            require(getattr(self, field) >= 1, field, getattr(self, field), "an integer of 1 or more")
        for field in ("weight_decay", "warmup", "early_checkpoints", "period", "decay_from"):
            value = getattr(self, field)
            require(0 <= value < float("inf"), field, value, "a finite number of 0 or more")
        require_seed("seed", self.seed)
        for field in ("learning_rate", "epsilon", "sam_radius"):
            value = getattr(self, field)
            require(0 < value < float("inf"), field, value, "a finite number above 0")
        for field in ("beta1", "beta2", "momentum"):
            require(0 <= getattr(self, field) < 1, field, getattr(self, field), "a number in [0, 1)")
        for field in ("batch_size", "eval_examples"):
            value = getattr(self, field)
            require(value is None or value >= 1, field, value, "None or 1 or more")
        self._require_agreement()

    def _hold_optional_types(self) -> None:
        """`clip_norm` as a float or None, `milestones` as a tuple of integers, so that equal settings have one JSON."""
        if self.clip_norm is not None:
            finite = isinstance(self.clip_norm, numbers.Real) and 0 < self.clip_norm < float("inf")
            require(finite, "clip_norm", self.clip_norm, "None or a finite number above 0")
            object.__setattr__(self, "clip_norm", float(self.clip_norm))
        given = self.milestones
        listed = isinstance(given, tuple | list) and all(isinstance(m, numbers.Real) and m % 1 == 0 for m in given)
        require(listed and sorted({0, *given}) == [0, *given], "milestones", given, "ascending epochs, 1 or later")
        object.__setattr__(self, "milestones", tuple(int(epoch) for epoch in given))

    def _require_agreement(self) -> None:
        """Refuse settings that contradict one another."""
        self._require_decay_within_the_run()
        if self.schedule == "milestones":
            require(bool(self.milestones), "milestones", self.milestones, "one or more for schedule='milestones'")
        if self.schedule == "warmup-cosine":
            later = f"a number above warmup={self.warmup} for schedule='warmup-cosine'"
            require(self.period > self.warmup, "period", self.period, later)
        if self.nesterov:
            momentum = self.optimizer in ("sgd", "sam") and self.momentum > 0
            require(momentum, "nesterov", True, "sgd or sam with a momentum above 0")
        start = self.start
        require(start is None or start.step < self.steps, "start", start, f"a step below steps={self.steps}")
        both = bool(self.norm_run) and self.norm_control != "none"
        require(not both, "norm_run", self.norm_run, "none beside norm_control")
        sharp = self.optimizer == "sam" and self.precision == "float16"
        require(not sharp, "precision", self.precision, "float32 or bfloat16 for optimizer='sam'")

    def _require_decay_within_the_run(self) -> None:
        """Refuse bounds of weight decay that no update of the run ever meets."""
        begin, until = self.decay_from, self.decay_until
        within = f"0, or a step before the last (steps={self.steps})"
        require(begin == 0 or begin < self.steps, "decay_from", begin, within)
        require(until is None or until > begin, "decay_until", until, f"None, or a step after decay_from={begin}")
        last = f"None, or a step up to the last (steps={self.steps})"
        require(until is None or until <= self.steps, "decay_until", until, last)

    @property
    def order_seed(self) -> int:
        """Seed of the order of the data and of noise in the loss: the run's own, or its branch's."""
        return self.seed if self.start is None else self.start.order

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
    known = {kind.__name__: kind for kind in (RunSpec, StartFrom, Perturbation, Ticket)} | dict(kinds)

    def build(plain: Any) -> Any:
        if isinstance(plain, list):
            return tuple(build(item) for item in plain)
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
    """Every setting under its own name, net and data flattened; None becomes 0, a tuple its items in a text.

    Specs that differ have settings that differ: a name that is taken is put behind that of its part.
    """
    flat: dict[str, int | float | str | bool] = {"architecture": type(spec.net).__name__}
    for part, of in (("", spec), ("data", spec.data), ("net", spec.net)):
        for name, value in _flat(of).items():
            flat[f"{part}_{name}" if name in flat else name] = value
    return {**flat, **_of_start(spec.start)} if spec.start else flat


def _flat(part: Any) -> dict[str, int | float | str | bool]:
    """The settings of a part and of the parts that it has; those of a run's net, data and start lie elsewhere."""
    flat: dict[str, int | float | str | bool] = {}
    for field in dataclasses.fields(part):
        value = getattr(part, field.name)
        if isinstance(part, RunSpec) and field.name in ("net", "data", "start"):
            continue
        if not dataclasses.is_dataclass(value):
            flat[field.name] = _declared(field, value)
        else:
            flat |= {f"{field.name}_{name}": inner for name, inner in _flat(value).items()}
    return flat


def _of_start(start: StartFrom) -> dict[str, int | float | str | bool]:
    """What tells branches of one trunk apart."""
    flat: dict[str, int | float | str | bool] = {"trunk": start.run_id, "split_step": start.step, "order": start.order}
    for change in (start.perturbation, start.ticket):
        if change is not None:
            flat |= {field.name: getattr(change, field.name) for field in dataclasses.fields(change)}
    return flat


def as_text(value: object) -> str:
    """A setting as people write it; numbers have one text exactly where they are equal."""
    match value:
        case bool() | None:
            return str(value).lower()
        case float():
            short = f"{value:g}"
            return NOT_SET if math.isnan(value) else short if float(short) == value else repr(value).removesuffix(".0")
        case tuple():
            return "/".join(map(as_text, value))
        case _:
            return str(value) or NOT_SET


def _declared(field: "dataclasses.Field[Any]", value: Any) -> int | float | str | bool:
    """A setting as a scalar of one type, whatever run it is of."""
    if isinstance(value, tuple):
        return ",".join(str(item) for item in value)
    value = 0 if value is None else value
    return float(value) if field.type in (float, "float", float | None) else value
