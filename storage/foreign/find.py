"""Finds series of checkpoints of other programs in folders, files and repositories of the Hub."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from specdyn.storage.access import objects
from specdyn.storage.access.listing import Listed, listing
from specdyn.storage.access.objects import StoreError
from specdyn.storage.access.reading import normalise_source
from specdyn.storage.checkpoints import DamagedCheckpoint
from specdyn.storage.foreign.archives import read_archive
from specdyn.storage.foreign.folders import SHARD, Nothing, Taken, is_of_training, kind_of, weights_in
from specdyn.storage.foreign.found import ForeignCheckpoint, Found, Search
from specdyn.storage.foreign.pickled import as_object
from specdyn.storage.foreign.states import AVERAGED, number_in, series_in
from specdyn.storage.foreign.steps import PICKLED, SAFE, Numbered, checked, in_order, missing_kind, numbered
from specdyn.storage.foreign.weights import Choice, same_content

TRAINER_STATE = "trainer_state.json"
"""File in which the Hugging Face Trainer writes the step."""
BESIDE = ("labels.json", "metrics.jsonl", "metrics", "metrics.csv", "hparams.yaml", "recording.json", "lease")
"""Names of what tells something of the training, and of what a recorder keeps beside its checkpoints."""
COPIES = ("last", "latest", "final", "best", "checkpoint_last", "checkpoint_best")
"""Usual names of copies of a checkpoint."""


@dataclass(slots=True)
class _Finding:
    """The state of a search through a folder."""

    bases: dict[str, str] = field(default_factory=dict)
    """The folder that holds the files of a name."""
    numbers: dict[str, Numbered] = field(default_factory=dict)
    taken: dict[str, Taken] = field(default_factory=dict)
    skipped: list[tuple[str, str]] = field(default_factory=list)
    told: dict[str, list[str]] = field(default_factory=dict)
    """Notes for the user, each with the names that it concerns."""


def find_checkpoints(url: str, pattern: str | None = None, search: Search | None = None) -> Found:
    """The series in a folder or a Hub repository, or the one checkpoint of a file or of a folder.

    Steps are those that the Trainer recorded, else those in names: steps before tokens before epochs, one kind only.
    Of several names with the same step the newest version counts, and of equal ones the first. StoreError if nothing
    is found, naming what is there, or if two names with the same step differ in content.
    """
    search = search or Search()
    search = replace(search, pattern=pattern) if pattern else search
    if search.pattern:
        checked(search.pattern)
    url = normalise_source(url)
    if search.revisions:
        from specdyn.storage.foreign.hub import find_revisions

        found = _Finding()
        for name, (folder, listed) in find_revisions(url, search.revisions).items():
            _look_into(found, folder, name, listed, search)
        return _arranged(url, found, search)
    series = _single(url, search) if url.endswith((*SAFE, *PICKLED)) else _folder(url, search)
    if series.checkpoints:
        return series
    seen = "; ".join(f"{name}: {why}" for name, why in series.skipped[:8]) or "nothing"
    raise StoreError(
        f"{url}: no checkpoints there, found {seen}; "
        f"expected {', '.join((*SAFE, *PICKLED))} with a step in the name "
        "(step=1000, step_1000, checkpoint-1000, 1000.pt, epoch_3), folders of these, or a pattern that finds it"
    )


def _single(url: str, search: Search) -> Found:
    folder, _, own = url.rpartition("/")
    item = listing(folder).get(own)
    if item is None:
        return Found(url, (), ())
    taken = Taken(kind=kind_of(own) or "torch", files=(own,), items=(item,))
    return _whole(url, folder, own, taken, search)


def _folder(url: str, search: Search) -> Found:
    listed = {name: item for name, item in listing(url).items() if name not in BESIDE}
    found = _Finding()
    for name, item in listed.items():
        if item.folder:
            if (one := numbered(name, search.pattern)) is None:
                found.skipped.append((name, "no step in its name"))
                continue
            _look_into(found, f"{url}/{name}", name, listing(f"{url}/{name}"), search, one)
        elif kind_of(name) is None:
            found.skipped.append((name, "not a file of weights"))
        elif SHARD.search(name):
            found.skipped.append((name, "a shard, which is read by its index"))
        elif (one := numbered(name, search.pattern)) is None:
            found.skipped.append((name, "no step in its name"))
        elif is_of_training(name):
            found.skipped.append((name, "belongs to an optimizer or similar, by its name"))
        else:
            found.bases[name], found.numbers[name] = url, one
            found.taken[name] = Taken(kind=kind_of(name) or "torch", files=(name,), items=(item,))
    # Trainers put the final weights next to the folders of a series; DeepSpeed puts its own into a checkpoint's folder.
    if all(name.startswith("global_step") for name in found.taken):
        whole = weights_in(url, listed, search.choice)
        if isinstance(whole, Taken) and not (found.taken and whole.folder):
            own = url.rpartition("/")[2]
            return _whole(url, url, own, whole, search, TRAINER_STATE in listed)
        if isinstance(whole, Nothing) and not found.taken and whole != Nothing():
            found.skipped.append(("the folder itself", whole.why))
    return _arranged(url, found, search)


def _look_into(
    found: _Finding,
    folder: str,
    name: str,
    listed: Mapping[str, Listed],
    search: Search,
    one: Numbered | None = None,
) -> None:
    """Add a folder that is one checkpoint, with the step that the Trainer recorded in it."""
    one = one or numbered(name, search.pattern)
    inside = weights_in(folder, listed, search.choice)
    if isinstance(inside, Nothing) or one is None:
        found.skipped.append((name, inside.why if isinstance(inside, Nothing) else "no step in its name"))
        return
    if TRAINER_STATE in listed and (noted := _noted_step(f"{folder}/{TRAINER_STATE}")) is not None:
        if one.step is not None and noted != one.step:
            what = f"the step in {TRAINER_STATE} counts, not the one in the name"
            found.told.setdefault(what, []).append(f"{name} ({noted})")
        one = replace(one, step=noted)
    for what in inside.told:
        found.told.setdefault(what, []).append(name)
    found.bases[name], found.numbers[name], found.taken[name] = folder, one, inside


def _noted_step(url: str) -> int | None:
    try:
        step = as_object(url, objects.read(url)).get("global_step")
    except DamagedCheckpoint:
        return None
    return step if isinstance(step, int) and step >= 0 else None


def _whole(url: str, folder: str, name: str, taken: Taken, search: Search, noted: bool = False) -> Found:
    """The one checkpoint of a file or folder, or the series in its one file."""
    one = numbered(name, search.pattern)
    step = _noted_step(f"{folder}/{TRAINER_STATE}") if noted else None
    checkpoint = _checkpoint(folder, name, 0, taken, search.choice)
    if taken.kind == "torch" and len(taken.files) == 1 and not taken.fault and not search.choice.key:
        loaded = _try_archive(checkpoint.urls[0])
        if (inside := series_in(loaded)) is not None:
            members, counted = inside
            checkpoints = tuple(
                replace(checkpoint, step=at, name=f"{taken.files[0]}[{key}]", choice=replace(search.choice, key=key))
                for key, at in members.items()
            )
            note = f"{taken.files[0]} holds {len(members)} state dicts: a series"
            return Found(url, tuple(sorted(checkpoints, key=lambda c: c.step)), (), counted, told=(note, *taken.told))
        step = number_in(loaded) if step is None and one is None else step
    if step is not None or one is None:
        return Found(url, (replace(checkpoint, step=step or 0),), (), told=taken.told)
    steps, unit, told = in_order({name: one}, search.per_epoch)
    return Found(url, (replace(checkpoint, step=steps[name]),), (), unit, told=(*taken.told, *told))


def _try_archive(url: str) -> Any:
    """The content of a file; None if it cannot be read, which is reported when its weights are read."""
    try:
        return read_archive(url)
    except (DamagedCheckpoint, StoreError):
        return None


def _arranged(url: str, found: _Finding, search: Search) -> Found:
    """The checkpoints in order of their steps, one per step."""
    steps, unit, told = in_order(found.numbers, search.per_epoch)
    skipped = found.skipped
    skipped += [(name, missing_kind(one, unit)) for name, one in found.numbers.items() if name not in steps]
    checkpoints = {
        name: _checkpoint(found.bases[name], name, step, found.taken[name], search.choice)
        for name, step in steps.items()
    }
    older: list[ForeignCheckpoint] = []
    by_step: dict[int, list[ForeignCheckpoint]] = {}
    for checkpoint in checkpoints.values():
        by_step.setdefault(checkpoint.step, []).append(checkpoint)
    repeated: list[tuple[str, str]] = []
    chosen = []
    for same in by_step.values():
        kept = _of_one_set(same, found.numbers, search.choice.weights, skipped)
        kept = _newest(kept, found.numbers, skipped, older)
        chosen.append(kept[0])
        repeated += [(other.name, _require_same(url, kept[0], other)) for other in kept[1:]]
    chosen.sort(key=lambda checkpoint: checkpoint.step)
    skipped = [(name, _copied(url, name, [*older, *chosen[-1:]]) or why) for name, why in skipped]
    notes = (*(f"{_some(names)}: {what}" for what, names in found.told.items()), *told)
    return Found(url, tuple(chosen), (*skipped, *repeated), unit, tuple(name for name, _ in repeated), notes)


def _some(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{names[0]} and {len(names) - 1} more"


def _of_one_set(
    same: Sequence[ForeignCheckpoint], numbers: Mapping[str, Numbered], weights: str, skipped: list[tuple[str, str]]
) -> list[ForeignCheckpoint]:
    """The files of one step that belong to the chosen set; by default raw weights before running means."""
    averaged = [c for c in same if AVERAGED.search(numbers[c.name].kind)]
    raw = [c for c in same if c not in averaged]
    if weights and weights != "raw":
        named = [c for c in same if weights.lower() in c.name.lower()]
        kept, why = named or (averaged if weights == "ema" else []) or list(same), f"not of weights={weights}"
    else:
        kept, why = raw or averaged, "running means of the weights (--weights ema takes them)"
    skipped += [(c.name, why) for c in same if c not in kept]
    return kept


def _newest(
    same: Sequence[ForeignCheckpoint],
    numbers: Mapping[str, Numbered],
    skipped: list[tuple[str, str]],
    older: list[ForeignCheckpoint],
) -> list[ForeignCheckpoint]:
    """The files of the newest version, such as Lightning's -v1; equal content is kept as a repetition."""
    newest = max(numbers[c.name].version for c in same)
    kept = [c for c in same if numbers[c.name].version == newest]
    for other in (c for c in same if c not in kept):
        older.append(other)
        if other.bytes == kept[0].bytes and _is_same(kept[0], other):
            kept.append(other)
        else:
            skipped.append((other.name, f"an older version of {kept[0].name}"))
    return kept


def _require_same(url: str, first: ForeignCheckpoint, other: ForeignCheckpoint) -> str:
    if not _is_same(first, other):
        raise StoreError(
            f"{url}: {first.name} and {other.name} both have step {first.step} and differ in content: "
            "pass a --pattern that tells them apart, or --weights"
        )
    return f"the step and the content of {first.name}"


def _is_same(a: ForeignCheckpoint, b: ForeignCheckpoint) -> bool:
    try:
        return same_content(a.weights(), b.weights())
    except (DamagedCheckpoint, StoreError):
        return False


def _copied(url: str, name: str, last: Sequence[ForeignCheckpoint]) -> str:
    """Which of the last checkpoints a name without a step, such as last.ckpt, is a copy of; empty if none."""
    stem = name.partition(".")[0].rpartition("-v")[0] or name.partition(".")[0]
    if stem not in COPIES or kind_of(name) is None:
        return ""
    copy = replace(last[-1], urls=(f"{url}/{name}",), kind=kind_of(name) or "torch", fault="") if last else None
    of = next((one for one in last if copy and _is_same(one, copy)), None)
    return f"a copy of {of.name}" if of else ""


def _checkpoint(base: str, name: str, step: int, taken: Taken, choice: Choice) -> ForeignCheckpoint:
    return ForeignCheckpoint(
        step=step,
        name=name,
        urls=tuple(f"{base}/{file}" for file in taken.files),
        bytes=sum(item.bytes for item in taken.items),
        written=max((item.written for item in taken.items), default=math.nan),
        tag=" ".join(item.tag for item in taken.items),
        folder=f"{base}/{taken.folder}".rstrip("/"),
        kind=taken.kind,
        choice=choice,
        fault=taken.fault,
    )
