"""Decides which files of a folder that holds one checkpoint are its weights."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from specdyn.storage.access import objects
from specdyn.storage.access.listing import Listed, listing
from specdyn.storage.checkpoints import DamagedCheckpoint
from specdyn.storage.foreign.distributed import METADATA
from specdyn.storage.foreign.pickled import as_object
from specdyn.storage.foreign.states import AVERAGED, OPTIMIZER
from specdyn.storage.foreign.steps import PICKLED, SAFE
from specdyn.storage.foreign.weights import Choice

Kind = Literal["safetensors", "torch", "adapter", "distributed"]
INDICES = (".safetensors.index.json", ".bin.index.json", ".pt.index.json")
SHARD = re.compile(r"-\d{5}-of-\d{5}\.")
USUAL = ("model", "diffusion_pytorch_model", "pytorch_model", "lit_model", "consolidated", "consolidated.00")
"""Usual names of weights, without their extension."""
ADAPTER = ("adapter_model.safetensors", "adapter_model.bin")
MAIN_PARTS = ("unet", "transformer", "model", "prior", "pytorch_model_fsdp_0")
"""Names of the trained network's folder, if a checkpoint has several."""
OTHER_FORMATS = (".msgpack", ".h5", ".onnx", ".gguf", ".tflite", ".npz", ".index")
"""Extensions of weights in formats that are not supported."""
ZERO = re.compile(r"^zero_pp_rank_\d+_mp_rank_\d+_model_states\.pt$")
PARALLEL = re.compile(r"^(mp_rank_\d+.*|consolidated\.\d+\.pth)$")
DEEPEST = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """The files of a checkpoint, relative to the folder, and notes on the choice."""

    kind: Kind = "torch"
    files: tuple[str, ...] = ()
    folder: str = ""
    """The subfolder that holds them, with a trailing slash; empty for the folder itself."""
    items: tuple[Listed, ...] = ()
    told: tuple[str, ...] = ()
    fault: str = ""
    """Why this checkpoint cannot be read; empty if it can."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Nothing:
    """No checkpoint, with the reason."""

    why: str = field(default="a folder without weights")


def kind_of(name: str) -> Kind | None:
    """The reader for a file of that name; None if there is none."""
    return "safetensors" if name.endswith(SAFE) else "torch" if name.endswith(PICKLED) else None


def is_of_training(name: str) -> bool:
    """Whether a file name suggests optimizer or similar state; `model_optim_rng.pt` holds weights too."""
    return bool(OPTIMIZER.search(name)) and not name.startswith("model")


def weights_in(url: str, listed: Mapping[str, Listed], choice: Choice, depth: int = 0) -> Taken | Nothing:
    """The weights of a folder that is one checkpoint.

    An index before a single file, usual names before others, safetensors before files of torch, weights before
    adapters, raw weights before running means; never files of optimizers. `choice.part` names a subfolder.
    """
    if choice.part and depth == 0:
        return _part(url, choice)
    files = {name: item for name, item in listed.items() if not item.folder}
    candidates = [name for name in files if kind_of(name) and not SHARD.search(name) and not is_of_training(name)]
    if spread := _spread(url, files, candidates):
        return spread
    if not candidates:
        return _inside(url, listed, choice, depth)
    if (name := _best(candidates, choice)) is None:
        return Nothing(why=f"several files of weights: {', '.join(candidates[:6])}: choose with --weights")
    if name in ADAPTER:
        return _adapter(url, files, name)
    others = sorted(other for other in candidates if other != name)
    told = (f"{name} taken, not {', '.join(others)}",) if others else ()
    return _taken(files, [name], kind_of(name) or "torch", told=told)


def _spread(url: str, files: Mapping[str, Listed], candidates: Sequence[str]) -> Taken | None:
    """Weights spread over several files, readable or not; None if they are in one file."""
    for suffix in INDICES:
        if indices := sorted((name for name in files if name.endswith(suffix)), key=len):
            return _sharded(url, files, indices[0])
    if METADATA in files and any(name.endswith(".distcp") for name in files):
        return _taken(files, [METADATA, *(name for name in files if name.endswith(".distcp"))], "distributed")
    if zero := [name for name in files if ZERO.match(name)]:
        why = "shards of DeepSpeed's ZeRO stage 3: `python zero_to_fp32.py . OUT`, which DeepSpeed wrote beside them, "
        return _taken(files, zero, "torch", fault=f"{why}makes one file")
    if len(slices := [name for name in candidates if PARALLEL.match(name)]) > 1:
        return _taken(files, slices, "torch", fault=_slices(len(slices)))
    return None


def _slices(count: int) -> str:
    return f"{count} slices of a model-parallel network: merge them with the program that wrote them"


def _best(candidates: Sequence[str], choice: Choice) -> str | None:
    """The file to use; None if there is none, or if several are equally good."""
    wanted, others = list(candidates), [name for name in candidates if not AVERAGED.search(name)]
    if choice.weights and choice.weights != "raw":
        named = [name for name in candidates if choice.weights.lower() in name.lower()]
        averaged = [name for name in candidates if AVERAGED.search(name)] if choice.weights == "ema" else []
        wanted = named or averaged or others or wanted
    else:
        wanted = others or wanted
    usual = [name for name in wanted if _stem(name) in USUAL]
    adapters = [name for name in wanted if name in ADAPTER]
    for group in (usual, adapters, [name for name in wanted if name not in ADAPTER]):
        ranked = sorted((kind_of(name) != "safetensors", len(name), name) for name in group)
        if len(ranked) == 1 or (ranked and (group is usual or group is adapters or ranked[0][0] != ranked[1][0])):
            return ranked[0][2]
    return None


def _stem(name: str) -> str:
    for suffix in (*SAFE, *PICKLED):
        if name.endswith(suffix):
            return name.removesuffix(suffix)
    return name


def _taken(
    files: Mapping[str, Listed], names: Sequence[str], kind: Kind, told: tuple[str, ...] = (), fault: str = ""
) -> Taken:
    items = tuple(files[name] for name in names if name in files)
    return Taken(kind=kind, files=tuple(names), items=items, told=told, fault=fault)


def _sharded(url: str, files: Mapping[str, Listed], index: str) -> Taken:
    kind: Kind = "safetensors" if index.endswith(INDICES[0]) else "torch"
    try:
        weight_map = as_object(f"{url}/{index}", objects.read(f"{url}/{index}")).get("weight_map")
        if not isinstance(weight_map, dict) or not all(
            isinstance(n, str) and "/" not in n for n in weight_map.values()
        ):
            raise DamagedCheckpoint("no weight_map")
    except DamagedCheckpoint:
        fault = f"{url}/{index}: not an index of shards: expected JSON with a weight_map"
        return _taken(files, [index], kind, fault=fault)
    shards = sorted(set(weight_map.values()))
    missing = [shard for shard in shards if shard not in files]
    fault = f"{url}: the index {index} names {missing[0]}, which is missing" if missing else ""
    return _taken(files, [shard for shard in shards if shard in files] or [index], kind, fault=fault)


def _adapter(url: str, files: Mapping[str, Listed], name: str) -> Taken:
    config = "adapter_config.json"
    fault = "" if config in files else f"{url}/{name}: {config} is missing, which has the scaling of the adapter"
    return _taken(files, [name, config] if config in files else [name], "adapter", fault=fault)


def _inside(url: str, listed: Mapping[str, Listed], choice: Choice, depth: int) -> Taken | Nothing:
    """The weights of a subfolder: the only one with weights, or the usual one of several."""
    if depth == DEEPEST:
        return Nothing()
    parts: dict[str, Taken] = {}
    for name, item in listed.items():
        if item.folder and not is_of_training(name):
            inner = weights_in(f"{url}/{name}", listing(f"{url}/{name}"), choice, depth + 1)
            if isinstance(inner, Taken):
                parts[name] = _below(name, inner)
    if not parts:
        seen = sorted(name for name in listed if name.endswith(OTHER_FORMATS))
        return Nothing(why=f"weights in an unsupported format: {seen[0]}") if seen else Nothing()
    if len(parts) == 1:
        return next(iter(parts.values()))
    if all(PARALLEL.match(name) for name in parts):
        return Taken(files=tuple(sorted(parts)), fault=_slices(len(parts)))
    part = _usual_part(list(parts), choice)
    if part is None:
        return Nothing(why=f"several parts: {', '.join(parts)}: choose with --part")
    others = ", ".join(other for other in parts if other != part)
    return replace(parts[part], told=(*parts[part].told, f"part {part} taken, not {others} (--part chooses)"))


def _usual_part(parts: Sequence[str], choice: Choice) -> str | None:
    if choice.weights == "ema" and len(averaged := [part for part in parts if AVERAGED.search(part)]) == 1:
        return averaged[0]
    raw = [part for part in parts if not AVERAGED.search(part)]
    main = [part for part in MAIN_PARTS if part in raw]
    return raw[0] if len(raw) == 1 else main[0] if main else None


def _part(url: str, choice: Choice) -> Taken | Nothing:
    below = f"{url}/{choice.part.strip('/')}"
    inner = weights_in(below, listing(below), choice, depth=1)
    return _below(choice.part.strip("/"), inner) if isinstance(inner, Taken) else Nothing(why=f"no part {choice.part}")


def _below(name: str, taken: Taken) -> Taken:
    return replace(taken, files=tuple(f"{name}/{file}" for file in taken.files), folder=f"{name}/{taken.folder}")
