"""Results, and the cube made of them, against a dictionary: whatever is put, lost, written, cut off and read."""

import contextlib
import tempfile
from typing import Any

import numpy as np
import pytest
import xarray as xr
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from helpers.cubes import VARIABLES, DiedError, dying_after, layout_of, part, values_of
from specdyn.storage.access import objects
from specdyn.storage.cube import CubeWriter
from specdyn.storage.places import Store
from specdyn.storage.query import open_results
from specdyn.storage.results import RunLayout, part_name, write_block
from specdyn.storage.rows import Row

Steps = tuple[int, ...]
THREE = {"in.weight": (4, 3), "mid": (4, 4), "out.weight": (2, 4)}
SHAPES: tuple[tuple[Steps, dict[str, tuple[int, int]] | None], ...] = (
    ((0, 10, 20), None),
    ((0, 5, 10), None),
    ((0, 10), THREE),
)
"""Steps and layers of runs: the usual ones, steps in between, another layer."""
KEPT = {name: VARIABLES[name] for name in ("singular_value", "collapse", "loss")}
ANALYSES = {"all": 1}


class Cube(RuleBasedStateMachine):
    """Runs, each trained some number of times, and the blocks of their results that are there."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.store = Store(self.folder.name)
        self.url = self.store.cube("hand")
        self.runs: list[int] = []
        """Number of the layout of each run."""
        self.trained: list[int] = []
        """How often each run was trained again: its values are others then."""
        self.put: set[tuple[int, Steps]] = set()
        """Blocks of the last training of each run that are there."""
        self.writer: CubeWriter | None = None

    def teardown(self) -> None:
        self.folder.cleanup()

    @initialize(layout=st.sampled_from(range(len(SHAPES))))
    def begin(self, layout: int) -> None:
        self.add_run(layout)

    @rule(layout=st.sampled_from(range(len(SHAPES))))
    @precondition(lambda self: len(self.runs) < 4)
    def add_run(self, layout: int) -> None:
        self.runs.append(layout)
        self.trained.append(0)

    @rule(draw=st.data(), written=st.booleans())
    def measure(self, draw: st.DataObject, written: bool) -> None:
        self.put_blocks(draw, draw.draw(st.sampled_from(range(len(self.runs)))), written)

    def put_blocks(self, draw: st.DataObject, run: int, written: bool) -> None:
        blocks = self.layout(run).blocks()
        for steps in draw.draw(st.sets(st.sampled_from(blocks), min_size=1)):
            values = part(self.layout(run), self.values(run, self.trained[run]), steps)
            write_block(self.results(run), self.layout(run), steps, ANALYSES, values)
            self.put.add((run, steps))
        if written:
            self.write()

    @rule(draw=st.data())
    @precondition(lambda self: self.put)
    def lose_block(self, draw: st.DataObject) -> None:
        run, steps = draw.draw(st.sampled_from(sorted(self.put)))
        objects.delete(f"{self.results(run)}/{part_name(steps, ANALYSES)}")
        self.put.remove((run, steps))

    @rule(draw=st.data(), written=st.booleans())
    def train_again(self, draw: st.DataObject, written: bool) -> None:
        run = draw.draw(st.sampled_from(range(len(self.runs))))
        self.trained[run] += 1
        self.put = {(other, steps) for other, steps in self.put if other != run}
        self.put_blocks(draw, run, written)

    @rule()
    def another_process_takes_over(self) -> None:
        self.writer = None

    @rule(survivors=st.integers(0, 80))
    def write_and_die(self, survivors: int) -> None:
        with pytest.MonkeyPatch.context() as patch, dying_after(patch, survivors), contextlib.suppress(DiedError):
            CubeWriter(url=self.url).write(self.rows(), {})
        self.writer = None
        self.check(whole=False)

    @rule()
    def write(self) -> None:
        self.writer = self.writer or CubeWriter(url=self.url)
        self.writer.write(self.rows(), {})
        self.check(whole=True)

    def check(self, whole: bool) -> None:
        """No value is wrong; after a `whole` write every block that is there is shown, beside none of other weights."""
        if not objects.exists(f"{self.url}/zarr.json"):
            assert not whole
            return
        tree = open_results(self.url)
        shown = tree["layers"]["run"].values.tolist()
        assert shown == [f"run{run}" for run in range(len(shown))]
        assert not whole or len(shown) == len(self.runs)
        for run in range(len(shown)):
            found = [self.found_of(tree, run, times) for times in range(self.trained[run] + 1)]
            assert any(one is not None for one in found), "values of no training, or of two side by side"
            if whole and (there := {steps for other, steps in self.put if other == run}):
                last = found[self.trained[run]]
                assert last is not None and there <= last

    def found_of(self, tree: xr.DataTree, run: int, times: int) -> set[Steps] | None:
        """The blocks whose values are shown, if all that is shown is of that training; None if not."""
        layout, blocks = self.layout(run), set[Steps]()
        for steps in layout.blocks():
            expected, known = part(layout, self.values(run, times), steps), set[bool]()
            for name, variable in layout.variables.items():
                whole = tree[f"{variable.group}/{name}"]
                if not set(steps) <= set(whole["step"].values.tolist()):
                    known.add(False)
                    continue
                labels: dict[str, Any] = {dim: layout.labels[dim] for dim in variable.dims}
                if not all(
                    set(labels[dim]) <= set(whole[dim].values.tolist()) for dim in variable.dims if dim != "step"
                ):
                    known.add(False)
                    continue
                values = whole.sel(run=f"run{run}").sel({**labels, "step": list(steps)}).values
                nothing = (values == 0).all() if variable.flags else np.isnan(values).all()
                if not nothing and not np.array_equal(values, expected[name], equal_nan=not variable.flags):
                    return None
                known.add(not nothing)
            if known == {True}:
                blocks.add(steps)
        return blocks

    def layout(self, run: int) -> RunLayout:
        steps, shapes = SHAPES[self.runs[run]]
        return layout_of(steps=steps, shapes=shapes, variables=KEPT, run_id=f"run{run}")

    def values(self, run: int, times: int) -> dict[str, np.ndarray]:
        return values_of(self.layout(run), seed=100 * run + times)

    def results(self, run: int) -> str:
        return self.store.run_results("hand", f"run{run}-{self.trained[run]}")

    def rows(self) -> list[Row]:
        rows = []
        for run in range(len(self.runs)):
            layout = self.layout(run)
            names = [part_name(steps, ANALYSES) for other, steps in sorted(self.put) if other == run]
            rows.append(
                Row(
                    key=f"run{run}",
                    status="partial" if names else "planned",
                    layout_of=lambda layout=layout: layout,  # type: ignore[misc]
                    coordinates={"seed": run},
                    settings={"seed": run},
                    results=f"run{run}-{self.trained[run]}",
                    parts={f"{self.results(run)}/{name}": frozenset(KEPT) for name in names},
                )
            )
        return rows


TestCube = Cube.TestCase
TestCube.settings = settings(max_examples=20, stateful_step_count=12)
