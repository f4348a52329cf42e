"""Blocks of a run's checkpoints, and the markers of those that are analysed: each is put when its block is whole."""

import json
from collections.abc import Mapping
from typing import Any

from specdyn.storage.access import objects

LARGEST_BLOCK = 16


def block_length(checkpoints: int) -> int:
    """Checkpoints in a block: about an eighth of the run, 1 to 16."""
    return max(1, min(LARGEST_BLOCK, -(-checkpoints // 8)))


def blocks_of(steps: tuple[int, ...]) -> list[tuple[int, ...]]:
    """The steps of a run's checkpoints cut into blocks."""
    length = block_length(len(steps))
    return [steps[i : i + length] for i in range(0, len(steps), length)]


def marker(analysis: str, version: int, steps: tuple[int, ...]) -> str:
    """Name of the marker of an analysis and a block, within the commits folder."""
    return f"{analysis}-v{version}/{steps[0]:08d}-{steps[-1]:08d}.json"


def commit(commits: str, analysis: str, version: int, steps: tuple[int, ...], metadata: Mapping[str, Any]) -> bool:
    """Mark a block as written; False where another process marked it first."""
    data = json.dumps({"analysis": analysis, "version": version, "steps": list(steps), **metadata}, sort_keys=True)
    return objects.create(f"{commits}/{marker(analysis, version, steps)}", data.encode())


def committed(commits: str, analyses: Mapping[str, int]) -> set[str]:
    """Markers that exist of these analyses (name -> version); one listing."""
    folders = {f"{analysis}-v{version}" for analysis, version in analyses.items()}
    found = objects.names_below(commits)
    return {name for name in found if name.rpartition("/")[0] in folders and name.endswith(".json")}
