"""A reader that repeatedly opens a cube while others write it, and compares every value with the final one.

It is a separate process: its arguments are the URLs of the cube and of the final one. It reads until its input ends,
and prints its observations as JSON.
"""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

import specdyn
from specdyn.storage.access.objects import StoreError
from specdyn.storage.query import reading
from specdyn.storage.schema import LIVE

HELD = 6
"""Number of trees kept open to be read again later; the oldest is dropped first."""
OPEN_AGAIN = "open them again"
Name = tuple[str, str]
"""A group and a variable of it."""


@dataclass(slots=True)
class Tree:
    """An open cube, and the values seen in it."""

    tree: xr.DataTree
    shown: dict[Name, np.ndarray] = field(default_factory=dict)


@dataclass(slots=True)
class Reader:
    """What was seen of a cube so far."""

    cube: str
    final: dict[Name, xr.Variable]
    labels: dict[str, dict[str, dict[Any, int]]]
    """By group and dimension, the place of each label in the final cube."""
    shown: dict[Name, np.ndarray] = field(default_factory=dict)
    """Where the final cube's values were seen in a tree that was fresh then."""
    held: list[Tree] = field(default_factory=list)
    looks: int = 0
    again: int = 0
    """Reads of trees opened before that say to open them again."""
    sizes: set[tuple[tuple[str, int], ...]] = field(default_factory=set)
    wrong: list[str] = field(default_factory=list)

    def look(self) -> None:
        """Open the cube and read all of it, then a tree that was opened before."""
        try:
            fresh = Tree(specdyn.open(self.cube), self.shown)
        except StoreError as error:
            if self.looks or "no results there" not in str(error):
                self.wrong.append(f"not to be opened: {error}")
            return
        self.looks += 1
        self.read(fresh, fresh=True)
        self.held.append(Tree(fresh.tree))
        if len(self.held) > HELD:
            self.held.pop(self.looks % HELD)
        self.read(self.held[self.looks % len(self.held)], fresh=False)

    def read(self, opened: Tree, fresh: bool) -> None:
        """Hold every value of a tree against the final one, and against what it has shown."""
        try:
            with reading(self.cube):
                for node in opened.tree.subtree:
                    data = node.to_dataset(inherit=False)
                    for name in map(str, data.variables):
                        if name not in LIVE:
                            self.compare((node.path, name), data.variables[name], data, opened)
        except StoreError as error:
            if fresh or OPEN_AGAIN not in str(error):
                self.wrong.append(f"not to be read: {error}")
            else:
                self.again += 1
                self.held.remove(opened)
        if fresh and "layers" in opened.tree.children:
            layers = opened.tree["layers"]
            self.sizes.add(tuple(sorted((str(dim), size) for dim, size in layers.sizes.items())))

    def compare(self, name: Name, variable: xr.Variable, data: xr.Dataset, opened: Tree) -> None:
        """Note where a value differs, or is no more."""
        group, own = name
        if "layer" in variable.dims and (group, f"layer_{own}") in self.final:
            name = group, f"layer_{own}"  # as it is called once a setting of that name varies
        if name not in self.final:
            self.wrong.append(f"{name} is not in the final cube")
            return
        final, places = self.final[name], self.labels[name[0]]
        if set(variable.dims) < set(final.dims):  # runs differ in it by now
            variable = variable.set_dims({dim: data.sizes[dim] for dim in final.dims})
        values = variable.isel({dim: slice(None) for dim in variable.dims}).values  # what is read is not kept
        try:
            where = [
                [places[str(dim)][label] for label in data[dim].values.tolist()]
                if str(dim) in places
                else range(variable.sizes[dim])
                for dim in variable.dims
            ]
        except KeyError as error:
            self.wrong.append(f"{name} has the label {error}")
            return
        there, expected = ~missing(variable, values), final.values[np.ix_(*where)] if where else final.values
        if own == "short_name":  # as short as tells the layers apart: "in_proj" is "0.in_proj" beside "1.in_proj"
            ends = np.vectorize(lambda short, longer: f".{longer}".endswith(f".{short}"), otypes=[bool])
            right = ends(values, expected)
        else:
            right = values == expected
        if not right[there].all():
            self.wrong.append(f"{name} has a wrong value")
        before = opened.shown.setdefault(name, np.zeros(final.shape, dtype=bool))
        index = np.ix_(*where) if where else ()
        if (before[index] & ~there).any():
            self.wrong.append(f"a value of {name} is no more")
        before[index] |= there


def missing(variable: xr.Variable, values: np.ndarray) -> np.ndarray:
    """Where nothing is measured."""
    if values.dtype.kind == "f":
        return np.isnan(values)
    return values == 0 if "flag_values" in variable.attrs else np.zeros(values.shape, dtype=bool)


def reader_of(cube: str, final: str) -> Reader:
    """A reader of a cube that will end as the final one."""
    tree = specdyn.open(final).load()
    nodes = {node.path: node.to_dataset(inherit=False) for node in tree.subtree}
    return Reader(
        cube=cube,
        final={(path, str(name)): data.variables[name] for path, data in nodes.items() for name in data.variables},
        labels={
            path: {
                str(dim): {label: place for place, label in enumerate(data[dim].values.tolist())}
                for dim in data.dims
                if dim in data.coords
            }
            for path, data in nodes.items()
        },
    )


@contextmanager
def watched(cube: str, final: str, folder: Path) -> Iterator[dict[str, Any]]:
    """A reader at work within the block, as a process of its own; what it saw is in the dictionary afterwards."""
    told, errors = folder / "reader.json", folder / "reader.err"
    with told.open("wb") as out, errors.open("wb") as err:
        process = subprocess.Popen(
            [sys.executable, __file__, cube, final], stdin=subprocess.PIPE, stdout=out, stderr=err, env=dict(os.environ)
        )
    seen: dict[str, Any] = {}
    try:
        assert process.stdin is not None
        yield seen
        process.stdin.close()
        code = process.wait(120)
        assert code == 0, errors.read_text()
        seen.update(json.loads(told.read_text()))
    finally:
        process.kill()
        process.wait()


def main() -> None:
    """Look until the input ends."""
    reader, ended = reader_of(*sys.argv[1:]), threading.Event()
    threading.Thread(target=lambda: (sys.stdin.read(), ended.set()), daemon=True).start()
    while not ended.is_set():
        reader.look()
    reader.look()
    shown = [name for name in reader.final if name[1] not in LIVE]
    whole = all((missing(v, v.values) | reader.shown[name]).all() for name, v in reader.final.items() if name in shown)
    told = {"looks": reader.looks, "again": reader.again, "shapes": len(reader.sizes), "whole": whole}
    print(json.dumps({**told, "wrong": reader.wrong[:20], "count": len(reader.wrong)}))


if __name__ == "__main__":
    main()
