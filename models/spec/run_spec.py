"""RunSpec: everything that determines what a training run computes, and the run_id derived from it."""

import dataclasses
import functools
import hashlib
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from specdyn.models.spec.checks import (
    name_of,
    require,
    require_counts,
    require_declared_types,
    require_each,
    require_known,
    require_seed,
)
from specdyn.models.spec.parts import Decay, Norms, Numerics, Optimizer, Record, Schedule
from specdyn.models.spec.start import Perturbation, StartFrom, Ticket

NOT_SET = "not set"
"""Text for a setting that a run does not have."""


@dataclass(frozen=True, kw_only=True)
class RunSpec:
    """One training run. A field left at its default is not part of the run_id, so defaults never change.

    It has no slots, as it keeps what is derived from its fields: a plan asks thousands of runs for it several times.
    """

    experiment: str
    """Name of a module in models/experiments."""
    net: Any
    """The architecture: a frozen dataclass that the experiment accepts."""
    data: Any
    """The data set and its split: a frozen dataclass that the experiment accepts."""
    steps: int
    """Optimizer steps."""
    batch_size: int | None = None
    """Examples per batch; None means the whole training set."""
    accumulate: int = 1
    """Batches per update; an epoch has a whole number of updates, and left-over batches are not used."""
    seed: int = 0
    """Seed of the initial weights, the order of the data, and the split of generated data."""
    optimizer: Optimizer = dataclasses.field(default_factory=Optimizer)
    schedule: Schedule = dataclasses.field(default_factory=Schedule)
    decay: Decay = dataclasses.field(default_factory=Decay)
    norms: Norms = dataclasses.field(default_factory=Norms)
    numerics: Numerics = dataclasses.field(default_factory=Numerics)
    record: Record = dataclasses.field(default_factory=Record)
    start: StartFrom | None = None
    """Where the run starts, if not from new weights; steps are then counted from the trunk's first."""
    source: str = ""
    """Digest of the source of a plug-in experiment: a different source makes a different run."""

    def __post_init__(self) -> None:
        require_declared_types(self)
        require_counts(self, "steps", "accumulate")
        require_each(self, ("batch_size",), lambda size: size is None or size >= 1, "None or 1 or more")
        require_seed("seed", self.seed)
        start, begin, until = self.start, self.decay.after, self.decay.until
        require(start is None or start.step < self.steps, "start", start, f"a step below steps={self.steps}")
        within = f"0, or a step before the last (steps={self.steps})"
        require(begin == 0 or begin < self.steps, "decay_from", begin, within)
        last = f"None, or a step up to the last (steps={self.steps})"
        require(until is None or until <= self.steps, "decay_until", until, last)
        precision = self.numerics.precision
        sharp = self.optimizer.name == "sam" and precision == "float16"
        require(not sharp, "precision", precision, "float32 or bfloat16 for optimizer='sam'")

    @property
    def order_seed(self) -> int:
        """Seed of the order of the data and of noise in the loss: the run's own, or its branch's."""
        return self.seed if self.start is None else self.start.order

    @property
    def first_step(self) -> int:
        """The first step: a branch is trained only from its split point on."""
        return 0 if self.start is None else self.start.step

    @functools.cached_property
    def run_id(self) -> str:
        """First 12 hexadecimal digits of the sha256 of the canonical JSON."""
        return hashlib.sha256(to_json(self).encode()).hexdigest()[:12]

    @functools.cached_property
    def _json(self) -> str:
        plain = {"type": type(self).__name__}
        for name, place in places(type(self)).items():
            if _is_changed(place.field, value := place.of(self)):
                plain[name] = _as_plain(value)
        return json.dumps(plain, sort_keys=True, separators=(",", ":"), allow_nan=False)

    @functools.cached_property
    def _flattened(self) -> Mapping[str, int | float | str | bool]:
        flat: dict[str, int | float | str | bool] = {"architecture": type(self.net).__name__}
        for name, place in places(type(self)).items():
            if name not in ("net", "data", "start", *(() if self.source else ("source",))):
                flat[name] = _declared(place.field, place.of(self))
        for part in ("data", "net"):
            for name, value in _flat(getattr(self, part)).items():
                flat[f"{part}_{name}" if name in flat else name] = value
        return {**flat, **_of_start(self.start)} if self.start else flat

    def __getstate__(self) -> dict[str, Any]:
        """Its fields alone: what is derived from them is not sent to workers."""
        return {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}


ORDER = (
    *("experiment", "steps", "batch_size", "optimizer", "learning_rate", "weight_decay", "beta1", "beta2", "epsilon"),
    *("momentum", "schedule", "warmup", "checkpoint_every", "early_checkpoints", "eval_batch_size", "eval_examples"),
    *("seed", "accumulate", "clip_norm", "precision", "milestones", "period", "nesterov", "sam_radius"),
    *("weight_decay_on", "decay_from", "decay_until", "norm_control", "norm_run", "tf32", "compile", "deterministic"),
    *("source", "decay", "record_decay"),
)
"""Order in which settings are listed and stored; those not listed here come last."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """The location of a setting in a spec."""

    part: str
    """The field of the spec that holds it; empty if it is itself a field of the spec."""
    field: "dataclasses.Field[Any]"

    def of(self, spec: RunSpec) -> Any:
        """Its value."""
        return getattr(getattr(spec, self.part) if self.part else spec, self.field.name)


def _places(kind: type) -> Mapping[str, Setting]:
    found: dict[str, Setting] = {}
    for field in dataclasses.fields(kind):
        if dataclasses.is_dataclass(field.type):
            found |= {name_of(one): Setting(part=field.name, field=one) for one in dataclasses.fields(field.type)}
        else:
            found[field.name] = Setting(part="", field=field)
    return {name: found[name] for name in dict.fromkeys((*ORDER, *found))}


places: Callable[[type], Mapping[str, Setting]] = functools.cache(_places)
"""Name -> location of every setting of a spec and its parts; `net`, `data` and `start` count as one each."""


def own_settings(spec: RunSpec) -> dict[str, Any]:
    """Name -> value of every setting of the spec and its parts; `net`, `data` and `start` unflattened."""
    return {name: place.of(spec) for name, place in places(type(spec)).items()}


def by_part(known: Mapping[str, Setting], values: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Group settings by name into part -> field -> value; those of the spec itself, and unknown ones, have part ""."""
    parts: dict[str, dict[str, Any]] = {"": {}}
    for name, value in values.items():
        part, field = (known[name].part, known[name].field.name) if name in known else ("", name)
        parts.setdefault(part, {})[field] = value
    return parts


def from_settings(**settings: Any) -> RunSpec:
    """The spec with these settings, named as in `own_settings`; TypeError for an unknown name."""
    kinds: dict[str, Any] = {field.name: field.type for field in dataclasses.fields(RunSpec)}
    parts = by_part(places(RunSpec), settings)
    own = parts.pop("")
    return RunSpec(**own, **{part: kinds[part](**values) for part, values in parts.items()})


def _as_plain(value: Any) -> Any:
    """A dataclass as {"type": name, **non-default fields}; numbers in canonical form."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {
            field.name: _as_plain(getattr(value, field.name))
            for field in dataclasses.fields(value)
            if _is_changed(field, getattr(value, field.name))
        }
        return {"type": type(value).__name__, **fields}
    return value


def _is_changed(field: "dataclasses.Field[Any]", value: Any) -> bool:
    return field.default is dataclasses.MISSING or value != field.default


def to_json(spec: RunSpec) -> str:
    """The spec's canonical JSON: sorted keys, settings under their own names, those at their default left out."""
    return spec._json


def from_json(text: str, kinds: Mapping[str, type]) -> RunSpec:
    """The spec that `to_json` wrote; `kinds` maps the type names of net and data to their classes."""
    parts = {kind.__name__: kind for kind in (StartFrom, Perturbation, Ticket)}
    known: Mapping[str, Callable[..., Any]] = {"RunSpec": from_settings, **parts, **kinds}

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


def plain_kinds(text: str) -> dict[str, type]:
    """Classes for the net and data of a spec's JSON, with exactly the settings that it contains."""
    plain = json.loads(text)
    parts = [plain[part] for part in ("net", "data") if isinstance(plain, dict) and isinstance(plain.get(part), dict)]
    found = [(str(part["type"]), tuple(name for name in part if name != "type")) for part in parts if "type" in part]
    return {name: _plain_kind(name, fields) for name, fields in found}


@functools.cache
def _plain_kind(name: str, fields: tuple[str, ...]) -> type:
    return dataclasses.make_dataclass(name, fields, frozen=True, slots=True, kw_only=True)


def hyperparameters(spec: RunSpec) -> dict[str, int | float | str | bool]:
    """Every setting under its own name, net and data flattened; None becomes 0, a tuple its items in a text.

    Different specs have different settings: on a name collision the name is prefixed with its part.
    """
    return dict(spec._flattened)


def _flat(part: Any) -> dict[str, int | float | str | bool]:
    """The settings of a part and of its nested parts."""
    flat: dict[str, int | float | str | bool] = {}
    for field in dataclasses.fields(part):
        value = getattr(part, field.name)
        if not dataclasses.is_dataclass(value):
            flat[field.name] = _declared(field, value)
        else:
            flat |= {f"{field.name}_{name}": inner for name, inner in _flat(value).items()}
    return flat


def _of_start(start: StartFrom) -> dict[str, int | float | str | bool]:
    """The settings that distinguish branches of one trunk."""
    flat: dict[str, int | float | str | bool] = {"trunk": start.run_id, "split_step": start.step, "order": start.order}
    for change in (start.perturbation, start.ticket):
        if change is not None:
            flat |= {field.name: getattr(change, field.name) for field in dataclasses.fields(change)}
    return flat


def as_text(value: object) -> str:
    """A setting as users write it; equal numbers have equal texts, and only these."""
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
    """A setting as a scalar whose type is the same for all runs."""
    if isinstance(value, tuple):
        return ",".join(str(item) for item in value)
    value = 0 if value is None else value
    return float(value) if field.type in (float, "float", float | None) else value
