"""Finds tensors that are equal in several checkpoints: repeated checkpoints, repeated shards, frozen layers."""

from collections.abc import Collection, Mapping

from specdyn.tasks.foreign.findings import Finding, finding, some
from specdyn.tasks.foreign.readings import Reading

Readings = Mapping[int, Mapping[str, Reading]]
"""Readings by step and name."""
FROZEN_FROM = 3
"""Fewest checkpoints for a layer that never changes to count as frozen."""


def repeated(readings: Readings, layers: Collection[str], files: Mapping[int, Mapping[str, str]]) -> list[Finding]:
    """Equal checkpoints, layers that never change, and tensors that some checkpoints share.

    `files` has the file of each tensor by step, to name a repeated shard.
    """
    whole = _groups({step: _digest(of) for step, of in readings.items()})
    found = [_whole(steps, max(readings)) for steps in whole]
    # One of several equal checkpoints represents all.
    kept = sorted(set(readings) - {step for steps in whole for step in steps[1:]})
    frozen = _frozen(readings, kept, layers)
    if frozen and len(kept) >= FROZEN_FROM:
        what = f"{len(frozen)} of {len(layers)} layers never change: {some(frozen)}"
        found.append(finding("note", (), what, "frozen, or not trained yet"))
    return found + _parts(readings, kept, set(frozen), files)


def _digest(tensors: Mapping[str, Reading]) -> tuple[tuple[str, str], ...]:
    return tuple(sorted((name, one.digest) for name, one in tensors.items()))


def _groups(keys: Mapping[int, object]) -> list[tuple[int, ...]]:
    same: dict[object, list[int]] = {}
    for step, key in keys.items():
        same.setdefault(key, []).append(step)
    return [tuple(steps) for steps in same.values() if len(steps) > 1]


def _whole(steps: tuple[int, ...], last: int) -> Finding:
    if last in steps:
        what = f"the same weights under different steps: {len(steps) - 1} repeat the final weights of step {last}"
    else:
        what = "the same weights under different steps"
    return finding("warning", steps, what, "leave out all but one, unless training stood still")


def _frozen(readings: Readings, steps: Collection[int], layers: Collection[str]) -> list[str]:
    if len(steps) < 2:
        return []
    digests = {name: {readings[s][name].digest if name in readings[s] else "" for s in steps} for name in layers}
    return [name for name, different in digests.items() if len(different) == 1]


def _parts(
    readings: Readings, kept: Collection[int], frozen: Collection[str], files: Mapping[int, Mapping[str, str]]
) -> list[Finding]:
    """Tensors that change, but are bitwise equal in some of the checkpoints."""
    names: dict[tuple[int, ...], list[str]] = {}
    for name in {name for step in kept for name in readings[step]} - set(frozen):
        there = {step: readings[step][name] for step in kept if name in readings[step]}
        if any(one.constant or not len(one.sample) for one in there.values()):
            continue
        groups = _groups({step: one.digest for step, one in there.items()})
        if groups and len(groups[0]) < len(there):
            for steps in groups:
                names.setdefault(steps, []).append(name)
    findings = []
    for steps, same in sorted(names.items()):
        shard = _shard(files.get(steps[-1], {}), same)
        what = f"{len(same)} tensors are the same at these steps while others change: {some(sorted(same))}"
        what += f"; they are all that {shard} has" if shard else ""
        findings.append(finding("warning", steps, what, "a shard was repeated, or layers were frozen for a while"))
    return findings


def _shard(files: Mapping[str, str], names: Collection[str]) -> str:
    """The file that consists of exactly these tensors, if there are several files."""
    of = {files.get(name, "") for name in names}
    if len(of) != 1 or len(set(files.values())) < 2:
        return ""
    (shard,) = of
    return shard if {name for name, file in files.items() if file == shard} == set(names) else ""
