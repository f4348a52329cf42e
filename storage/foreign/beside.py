"""Reads files next to a series of checkpoints that say how it was trained: labels, trainer arguments, settings."""

import json
from collections.abc import Mapping
from typing import Any

import yaml

from specdyn.storage.access import objects
from specdyn.storage.access.listing import listing
from specdyn.storage.checkpoints import DamagedCheckpoint
from specdyn.storage.foreign.archives import read_archive
from specdyn.storage.foreign.found import Found
from specdyn.storage.foreign.inert import StandIn
from specdyn.storage.foreign.steps import PICKLED, SAFE

LABELS = "labels.json"
MOST = 256
"""The most labels a file may have: files of this name often hold the classes of a data set."""
ARGUMENTS = "training_args.bin"
"""Pickle in which the Hugging Face Trainer saves its arguments."""
SETTINGS = "hparams.yaml"
"""File in which Lightning saves a module's arguments."""
OF_LIGHTNING = "checkpoints"
"""Lightning's folder of checkpoints; its other files are next to that folder."""
TAKEN = (
    *("weight_decay", "learning_rate", "seed", "optim", "lr_scheduler_type", "warmup_steps", "warmup_ratio"),
    *("adam_beta1", "adam_beta2", "adam_epsilon", "max_grad_norm", "label_smoothing_factor", "max_steps"),
    *("num_train_epochs", "per_device_train_batch_size", "gradient_accumulation_steps"),
)
"""The Trainer's arguments that affect training; the others concern paths, logs and machines."""


def folders_beside(found: Found) -> tuple[str, ...]:
    """The folders that may hold files about a whole series, nearest first.

    For revisions on the Hub, which share no folder, those of the last revision.
    """
    last = found.checkpoints[-1].folder
    if not f"{last}/".startswith(f"{found.url}/") and not found.url.startswith(f"{last}/"):
        return (last,)
    url = found.url.rpartition("/")[0] if found.url.endswith((*SAFE, *PICKLED)) else found.url
    above, _, name = url.rpartition("/")
    return (url, above) if name == OF_LIGHTNING else (url,)


def labels_beside(found: Found) -> dict[str, dict[str, Any]]:
    """Settings from files next to a series, by file name, in order of precedence.

    ValueError if a `labels.json` is not JSON. Imports and calls nothing that a file names.
    """
    said: dict[str, dict[str, Any]] = {}
    folders = folders_beside(found)
    there = {folder: listing(folder) for folder in dict.fromkeys((*folders, found.checkpoints[-1].folder))}
    for folder, listed in there.items():
        if LABELS in listed and LABELS not in said:
            said[LABELS] = _labels(f"{folder}/{LABELS}")
    for folder in dict.fromkeys((found.checkpoints[-1].folder, *folders)):
        if ARGUMENTS in there[folder] and ARGUMENTS not in said:
            said[ARGUMENTS] = _arguments(f"{folder}/{ARGUMENTS}")
    for folder in folders:
        if SETTINGS in there[folder] and SETTINGS not in said:
            said[SETTINGS] = _settings(f"{folder}/{SETTINGS}")
    return {name: labels for name, labels in said.items() if labels}


def _labels(url: str) -> dict[str, Any]:
    """The labels in a file; none if it clearly holds something else, such as class names by number."""
    try:
        found = json.loads(objects.read(url))
    except (ValueError, RecursionError) as error:
        raise ValueError(
            f'{url}: not JSON ({error}): expected labels such as {{"weight_decay": 1, "seed": 0}}'
        ) from None
    if not isinstance(found, dict) or len(found) > MOST or not any(name.isidentifier() for name in found):
        return {}
    return {name: value for name, value in found.items() if value is not None}


def _arguments(url: str) -> dict[str, Any]:
    """The arguments of a Trainer; empty for other files."""
    try:
        loaded = read_archive(url)
    except (DamagedCheckpoint, objects.StoreError):
        return {}
    of = loaded.state if isinstance(loaded, StandIn) and isinstance(loaded.state, Mapping) else {}
    found = {name: _plain(of[name]) for name in TAKEN if name in of}
    return {name: value for name, value in found.items() if value is not None}


def _plain(value: Any) -> bool | int | float | str | None:
    """A plain value, or the value of an enum member; None for anything else."""
    if isinstance(value, StandIn) and len(value.args) == 1:  # e.g. SchedulerType("linear")
        value = value.args[0]
    return value if isinstance(value, bool | int | float | str) else None


class _Inert(yaml.SafeLoader):  # type: ignore[misc]
    """Loads plain values; tagged values become None, and nothing is imported or called."""


_Inert.add_multi_constructor("", lambda *_: None)


def _settings(url: str) -> dict[str, Any]:
    """The plain values in a YAML file whose names are words."""
    try:
        loaded = yaml.load(objects.read(url), _Inert)
    except (yaml.YAMLError, UnicodeDecodeError):
        return {}
    found = loaded if isinstance(loaded, dict) else {}
    plain = {name: _plain(value) for name, value in found.items() if isinstance(name, str) and name.isidentifier()}
    return {name: value for name, value in plain.items() if value is not None}
