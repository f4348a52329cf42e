"""Decides which parts of a file's content are the weights."""

import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from specdyn.storage.access.objects import StoreError
from specdyn.storage.foreign.inert import Named, StandIn
from specdyn.storage.foreign.steps import Unit
from specdyn.storage.foreign.stored import Bytes, Stored

STATE_KEYS = ("state_dict", "model_state_dict", "model", "net", "network", "module", "params")
"""Keys under which training programs store weights, Lightning's first."""
OPTIMIZER = re.compile(
    r"(?i)(^|[_.\-/])(opt(im\w*)?|opts|lr_?sched\w*|scheduler\w*|scaler|grad\w*|rng\w*|random\w*|amp|loops|callbacks"
    r"|training_args|zero_pp_rank\w*)([_.\-/\d]|$)"
)
"""Names of optimizer and similar state, not of weights."""
AVERAGED = re.compile(r"(?i)(^|[_.\-/])((\w*_)?ema|averag\w*|avg|swa|shadow\w*|polyak)([_.\-/\d]|$)")
"""Names of running means (EMA) of weights."""
AVERAGED_INSTEAD = {"state_dict", "current_model_state", "averaging_state"}
"""Keys whose presence means that `state_dict` holds the mean, as with Lightning's weight-averaging callbacks."""
ORDER = re.compile(r"(?i)(global_step|step|iter|epoch)")
DEEPEST = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """The tensors of a state dict by name, and its other entries with the reason for skipping them."""

    tensors: Mapping[str, Stored]
    passed_over: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class States:
    """The state dicts of a file by name: the keys that lead to them, joined by dots."""

    named: Mapping[str, State]
    keys: Sequence[str]
    """The top-level keys of the file, for messages."""
    means: frozenset[str] = frozenset()
    """Names of running means."""


def states_in(loaded: Any) -> States:
    """Every state dict in a file's content, except those of optimizers."""
    found = {".".join(path): state for path, state in _walk(loaded, ())}
    content = contents(loaded)
    keys = [str(key) for key in content or ()] or [_kind(loaded)]
    instead = set(keys) >= AVERAGED_INSTEAD
    means = frozenset(name for name in found if AVERAGED.search(name) or (instead and name == "state_dict"))
    return States(named=found, keys=keys, means=means)


def chosen_state(url: str, loaded: Any, key: str = "", weights: str = "") -> tuple[str, State, States]:
    """Choose the weights of a file; returns their name, the state dict and all state dicts.

    Without `key` or `weights`, prefers a usual key, then the file itself if it is a dict of tensors, then an only state
    dict; running means (EMA) only if there is nothing else. `weights` is a part of the name, such as ema.
    StoreError, naming the candidates, if there are none or several are equally good.
    """
    states = states_in(loaded)
    names = list(states.named)
    if key:
        if key not in states.named:
            raise StoreError(f"{url}: no state dict under key={key!r}; {_list(states)}")
        return key, states.named[key], states
    if weights and weights != "raw":
        fitting = [name for name in names if weights == name] or [n for n in names if weights.lower() in n.lower()]
        if not fitting and weights.lower() == "ema":
            fitting = [name for name in names if name in states.means]
        fitting = [name for name in fitting if _has_matrices(states.named[name])] or fitting
        if len(fitting) > 1:
            raise StoreError(f"{url}: weights={weights!r} matches {', '.join(fitting)}: choose one with `--key`")
        if fitting:
            return fitting[0], states.named[fitting[0]], states
    name = _usual([n for n in names if n not in states.means], states) or _usual(names, states)
    if name is None:
        raise StoreError(f"{url}: {_none_chosen(states)}")
    return name, states.named[name], states


def series_in(loaded: Any) -> tuple[dict[str, int], Unit] | None:
    """State dicts in a list or under numeric keys: their names with steps, and what the steps count.

    Steps come from an ascending list of the same length next to it, else from positions; None if there is no series.
    """
    content = contents(loaded)
    if isinstance(loaded, list | tuple):
        content = {"": loaded}
    for key, value in (content or {}).items():
        if isinstance(value, list | tuple) and len(value) > 1 and all(_is_state(item) for item in value):
            unit, steps = _beside(content or {}, len(value))
            return {".".join(filter(None, (str(key), str(i)))): step for i, step in enumerate(steps)}, unit
        if _is_numbered(value):
            return {f"{key}.{step}": step for step in sorted(value)}, "steps"
    if content and _is_numbered(content):
        return {str(step): step for step in sorted(content)}, "steps"
    return None


def number_in(loaded: Any) -> int | None:
    """The step recorded in a file, such as Lightning's `global_step`; None if there is none."""
    content = contents(loaded) or {}
    found = (content.get(name) for name in ("global_step", "step", "iteration", "iter"))
    return next((value for value in found if isinstance(value, int) and not isinstance(value, bool)), None)


def contents(value: Any) -> Mapping[Any, Any] | None:
    """A container's content by key: a dict, a pickled module, or an object with attributes; None for others."""
    if isinstance(value, Mapping):
        return value
    if not isinstance(value, StandIn):
        return None
    if isinstance(value.field("_parameters"), Mapping):
        return _of_module(value)
    if value.name.startswith("__torch__."):
        return _of_script(value)
    attributes = value.state if isinstance(value.state, Mapping) else {}
    return {**attributes, **value.entries}


def _of_module(module: StandIn, depth: int = 0) -> dict[str, Any]:
    """The state dict of a pickled module, as its class would return it."""
    own = {**(module.field("_parameters") or {}), **(module.field("_buffers") or {})}
    fleeting = module.field("_non_persistent_buffers_set") or ()
    found = {str(name): value for name, value in own.items() if value is not None and name not in fleeting}
    children = module.field("_modules")
    if isinstance(children, Mapping) and depth < 100:
        for name, child in children.items():
            if isinstance(child, StandIn):
                found |= {f"{name}.{inner}": value for inner, value in _of_module(child, depth + 1).items()}
    return found


def _of_script(module: StandIn, depth: int = 0) -> dict[str, Any]:
    """The tensors of a traced or scripted module: its attributes, and recursively those of its submodules."""
    found: dict[str, Any] = {}
    for name, value in (module.state if isinstance(module.state, Mapping) else {}).items():
        if isinstance(value, Stored):
            found[str(name)] = value
        elif isinstance(value, StandIn) and depth < 100:
            found |= {f"{name}.{inner}": tensor for inner, tensor in _of_script(value, depth + 1).items()}
    return found


def _walk(value: Any, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], State]]:
    content = contents(value)
    if isinstance(value, list | tuple) and any(_is_state(item) for item in value):
        content = dict(enumerate(value))
    if content is None or "param_groups" in content or len(path) > DEEPEST:
        return
    if any(isinstance(item, Stored) for item in content.values()):
        yield path, _state(content)
    elif path and path[-1] in STATE_KEYS and (flat := dict(_flat(content, ()))) and not _usual_inside(content):
        yield path, _state(flat)
        return
    for key, item in content.items():
        if not OPTIMIZER.search(str(key)):
            yield from _walk(item, (*path, str(key)))


def _flat(content: Mapping[Any, Any], path: tuple[str, ...]) -> Iterator[tuple[str, Stored]]:
    """The tensors of nested dicts, as written by Megatron."""
    for key, item in content.items():
        if isinstance(item, Stored):
            yield ".".join((*path, str(key))), item
        elif isinstance(item, Mapping) and len(path) < DEEPEST:
            yield from _flat(item, (*path, str(key)))


def _usual_inside(content: Mapping[Any, Any]) -> bool:
    return any(key in content for key in STATE_KEYS)


def _state(content: Mapping[Any, Any]) -> State:
    tensors = {str(name): item for name, item in content.items() if isinstance(item, Stored)}
    reasons = {name: item.why_not() for name, item in tensors.items()}
    passed = {str(name): f"not a tensor: {_kind(item)}" for name, item in content.items() if str(name) not in tensors}
    return State(
        tensors={name: item for name, item in tensors.items() if not reasons[name]},
        passed_over=passed | {name: why for name, why in reasons.items() if why},
    )


def _is_state(value: Any) -> bool:
    content = contents(value)
    return bool(content) and any(isinstance(item, Stored) for item in (content or {}).values())


def _is_numbered(value: Any) -> bool:
    """Whether the value is a dict of state dicts by step."""
    if not isinstance(value, Mapping) or len(value) < 2:
        return False
    return all(isinstance(key, int) and _is_state(item) for key, item in value.items())


def _usual(names: Sequence[str], states: States) -> str | None:
    """The best name: a usual key, else the file itself, else the only one; None if several are equally good."""
    ranked = sorted((_rank(name, states.named[name]), name) for name in names)
    if not ranked or (len(ranked) > 1 and ranked[0][0] == ranked[1][0]):
        return None
    return ranked[0][1]


def _rank(name: str, state: State) -> tuple[int, ...]:
    matrices = _has_matrices(state)
    parts = name.split(".") if name else []
    if not parts:
        return (1,) if matrices else (2, True)
    if not all(part in STATE_KEYS for part in parts):
        return (2, not matrices)
    return (0, not matrices, *(STATE_KEYS.index(part) for part in parts))


def _has_matrices(state: State) -> bool:
    return any(len(tensor.shape) > 1 and tensor.dtype.is_floating_point for tensor in state.tensors.values())


def _beside(content: Mapping[Any, Any], length: int) -> tuple[Unit, list[int]]:
    """The steps from an ascending list of this length, and what they count; else positions."""
    for key, value in sorted(content.items(), key=lambda item: not ORDER.search(str(item[0]))):
        if not isinstance(value, list | tuple) or len(value) != length:
            continue
        numbers = [int(n) for n in value if isinstance(n, int | float) and n == int(n)]
        if len(numbers) == length and all(a < b for a, b in itertools.pairwise(numbers)):
            return "epochs" if "epoch" in str(key).lower() else "steps", numbers
    return "checkpoints", list(range(length))


def _none_chosen(states: States) -> str:
    if states.named:
        return f"several candidate state dicts; {_list(states)}: choose one with `--key`"
    return (
        f"no state dict found; expected a dict of tensors, or one under {', '.join(STATE_KEYS)}; "
        f"found {', '.join(states.keys[:10])}"
    )


def _list(states: States) -> str:
    return f"state dicts in this file: {', '.join(name or '(the file itself)' for name in states.named) or 'none'}"


def _kind(value: Any) -> str:
    if isinstance(value, Stored):
        return "Tensor"
    if isinstance(value, Bytes):
        return "a storage"
    if isinstance(value, StandIn | Named):
        return value.name
    return "None" if value is None else type(value).__name__
