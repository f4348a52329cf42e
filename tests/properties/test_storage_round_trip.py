"""What is measured of runs is read from their objects and from the cube, however it was cut."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from helpers.cubes import VARIABLES, layout_of, part, values_of, write_cube, write_row
from specdyn.storage import cube_tree
from specdyn.storage.checkpoints import pack, unpack
from specdyn.storage.places import Store
from specdyn.storage.query import open_results
from specdyn.storage.results import RunLayout, blocks_of, part_name, write_block
from specdyn.storage.rows import Row, row_values
from specdyn.storage.schema import Variable

STEPS = st.lists(st.integers(0, 10**6), min_size=1, max_size=40, unique=True).map(sorted)
NAMES = st.text("abcdefgh.0123", min_size=1, max_size=6)
SHAPES = st.dictionaries(NAMES, st.tuples(st.integers(1, 9), st.integers(1, 9)), min_size=2, max_size=4)
CHUNKS = st.dictionaries(st.sampled_from(["layer", "step", "rank"]), st.integers(1, 50))


@st.composite
def layouts(draw: st.DrawFn, run_id: str = "aaa") -> RunLayout:
    """A layout of any steps and layers, with any inner chunks asked of the cube."""
    chunks = draw(CHUNKS)
    singular = Variable(dims=("layer", "step", "rank"), long_name="singular value", chunks=chunks)
    variables = {**VARIABLES, "singular_value": singular}
    kept = draw(st.sets(st.sampled_from(list(variables)), min_size=1))
    return layout_of(
        steps=draw(STEPS),
        shapes=draw(SHAPES),
        variables={name: variables[name] for name in variables if name in kept},
        run_id=run_id,
    )


@given(steps=STEPS)
def test_blocks_cut_the_steps_without_loss(steps: list[int]) -> None:
    blocks = blocks_of(tuple(steps))
    assert [step for block in blocks for step in block] == steps
    assert all(blocks)


@given(layout=layouts(), draw=st.data())
def test_the_objects_of_a_run_hold_what_was_written_in_any_order(
    tmp_path_factory: pytest.TempPathFactory, layout: RunLayout, draw: st.DataObject
) -> None:
    folder, values, parts = str(tmp_path_factory.mktemp("run")), values_of(layout), {}
    for steps in draw.draw(st.permutations(layout.blocks())):
        write_block(folder, layout, steps, {"all": 1}, part(layout, values, steps))
        parts[f"{folder}/{part_name(steps, {'all': 1})}"] = frozenset(layout.variables)
    row = Row(key="aaa", status="done", layout_of=lambda: layout, coordinates={}, parts=parts)
    found = row_values(row, None)
    assert found.keys() == layout.variables.keys()
    for name, array in found.items():
        np.testing.assert_array_equal(array, values[name])


@given(first=layouts("first"), second=layouts("second"), size=st.sampled_from([1, 200, 10**9]))
def test_the_cube_holds_every_run_at_its_labels_and_nothing_else(
    tmp_path_factory: pytest.TempPathFactory, first: RunLayout, second: RunLayout, size: int
) -> None:
    store = Store(str(tmp_path_factory.mktemp("store")))
    written = {layout.attributes["run_id"]: (layout, values_of(layout, i)) for i, layout in enumerate((first, second))}
    rows = [write_row(store, layout, values, seed=i) for i, (layout, values) in enumerate(written.values())]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cube_tree, "CHUNK_BYTES", size)
        patch.setattr(cube_tree, "LARGEST_CHUNK", size)
        write_cube(store.cube("both"), rows)
    tree = open_results(store.cube("both"))
    for run, (layout, values) in written.items():
        for name, variable in layout.variables.items():
            whole = tree[f"{variable.group}/{name}"].sel(run=run)
            labels: dict[str, Sequence[Any]] = {dim: layout.labels[dim] for dim in variable.dims}
            np.testing.assert_array_equal(whole.sel(labels), values[name])
            assert present(whole) == present(values[name])


def present(values: Any) -> int:
    """How many values are there: not NaN, and not 0 where 0 is `missing`."""
    array = np.asarray(values)
    return int(np.count_nonzero(array) if array.dtype.kind == "i" else np.count_nonzero(~np.isnan(array)))


KINDS = [torch.float32, torch.float64, torch.bfloat16, torch.float16, torch.int64, torch.uint8, torch.bool]


@given(
    names=st.lists(NAMES, min_size=1, max_size=6, unique=True),
    kinds=st.lists(st.sampled_from(KINDS), min_size=6, max_size=6),
    shape=st.lists(st.integers(0, 4), max_size=3),
    body=st.dictionaries(st.text(max_size=5).filter(lambda key: key != "order"), st.integers() | st.text(max_size=5)),
)
def test_tensors_are_unpacked_as_they_were_packed(
    names: list[str], kinds: list[torch.dtype], shape: list[int], body: dict[str, Any]
) -> None:
    tensors = {
        name: (torch.arange(int(np.prod(shape))).reshape(shape) * (i + 1)).to(kind)
        for i, (name, kind) in enumerate(zip(names, kinds, strict=False))
    }
    found, told = unpack(pack(tensors, body))
    assert list(found) == names
    assert told == body
    for name, tensor in tensors.items():
        assert found[name].dtype == tensor.dtype
        assert torch.equal(found[name], tensor)
