"""The values that a page carries: those of the cube, fewer where they are many, and how few is said."""

import base64
import gzip
import json
import re

import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import specdyn as sd
from specdyn.tasks.figures.live import packing
from specdyn.tasks.figures.live.packing import _limit, pack, thinning
from specdyn.tasks.figures.page import page


def values_of(packed: packing.Packed, name: str) -> tuple[dict[str, list[int]], np.ndarray]:
    block = np.frombuffer(gzip.decompress(base64.b64decode(packed.block)), "<f4")
    (variable,) = (one for one in packed.variables if one["name"] == name)
    size = int(np.prod(variable["shape"]))
    return variable["kept"], block[variable["offset"] : variable["offset"] + size].reshape(variable["shape"])


def test_every_numeric_variable_is_carried_to_the_bit() -> None:
    tree = sd.analyse({"a": nn.Linear(8, 6), "b": nn.Sequential(nn.Linear(8, 6), nn.Linear(6, 3))})
    packed = pack(tree, "run")
    expected = {
        str(name)
        for node in tree.subtree
        for name, array in node.to_dataset(inherit=False).data_vars.items()
        if array.dtype.kind in "fiub" and node.path != "/runs"
    }
    assert {one["name"] for one in packed.variables} == expected and len(expected) > 80
    for one in packed.variables:
        kept, values = values_of(packed, one["name"])
        array = tree[one["group"]].to_dataset()[one["name"]].transpose("run", ...)
        assert not kept and list(array.dims[1:]) == one["dims"]
        np.testing.assert_array_equal(values, array.values.astype(np.float32))
    assert not thinning(packed.variables, packed.labels)


@pytest.fixture
def large() -> xr.DataTree:
    """100 runs with far more values than a page may have."""
    runs, steps, layers, ranks = 100, 40, 6, 100
    values = np.arange(runs * steps * layers * ranks, dtype=np.float32).reshape(runs, layers, steps, ranks)
    data = xr.Dataset(
        {"singular_value": (("run", "layer", "step", "rank"), values), "small": (("run", "step"), values[:, 0, :, 0])},
        {
            "run": [f"r{i}" for i in range(runs)],
            "layer": list("abcdef"),
            "step": np.arange(steps) * 10,
            "rank": np.arange(1, ranks + 1),
            "weight_decay": ("run", np.arange(runs) % 10),
            "seed": ("run", np.arange(runs) // 10),
        },
    )
    return xr.DataTree.from_dict({"/layers": data})


def test_too_many_are_cut_to_the_first_ranks_and_what_is_shown_is_said(large: xr.DataTree) -> None:
    packed = pack(large, "run")
    assert len(gzip.decompress(base64.b64decode(packed.block))) <= packing.MOST_BYTES
    kept, values = values_of(packed, "singular_value")
    assert kept["rank"] == list(range(len(kept["rank"]))) and 12 <= len(kept["rank"]) < 100
    array = large["layers"].to_dataset()["singular_value"].isel(kept)
    np.testing.assert_array_equal(values, array.values)
    ((names, what),) = thinning(packed.variables, packed.labels)
    assert names == "singular_value" and what == f"the first {len(kept['rank'])} of 100 ranks"
    written = page(large, "s3://bucket/results")
    assert what in written and len(written) < 10_000_000


@given(sizes=st.lists(st.integers(1, 10**6), min_size=1, max_size=20), room=st.integers(1, 10**6))
def test_what_is_cut_to_the_limit_fits(sizes: list[int], room: int) -> None:
    limit = _limit(sizes, room)
    assert sum(min(size, limit) for size in sizes) <= room * (1 + 1e-9) or sum(sizes) <= room
    assert limit == float("inf") or sum(sizes) > room


def test_names_cannot_leave_their_place_in_the_page() -> None:
    hostile = "</script><script>alert(1)</script>"
    tree = sd.analyse({hostile: nn.Linear(3, 3), "other": nn.Linear(3, 3)}, ["effective_rank"])
    written = page(tree, f"results/{hostile}")
    assert "<script>alert" not in written
    (report,) = re.findall(r'<script type="application/json" id="report">(.*?)</script>', written)
    assert json.loads(report)["rows"]["labels"][0]["id"] == hostile
