"""The queries of the documents on plain xarray, run as they stand on a store, with and without dask."""

import importlib.util
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

from helpers.branched import carry_out, graph_in
from specdyn.tasks.plan.sweeps import make_sweep

ROOT = Path(__file__).parents[3]
BLOCK = re.compile(r"^```python\n(.*?)^```", re.DOTALL | re.MULTILINE)
SETTINGS = {"steps": 20, "checkpoint_every": 10}
DEMO, LINES = "modular_addition-demo", "modular_addition-demo-steps=1500-weight_decay=2"
PAGES = {"docs/results.md": "# Results", "docs/connectivity.md": "# Linear mode"}
"""The heading under which each page opens a study."""
DASK = importlib.util.find_spec("dask") is not None


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a store `results` in which the studies have the names that the documents take."""
    folder = tmp_path_factory.mktemp("queries")
    store = str(folder / "results")
    carry_out(
        make_sweep("modular_addition", "smoke", [0.0, 1.0], [0, 1], DEMO, settings=SETTINGS),
        graph_in(store, "connect")[1],
    )
    carry_out(*graph_in(store, "connect", name=LINES, seeds=[0, 1]))
    return folder


def queries(page: str) -> list[str]:
    """The blocks of Python under the heading that opens a study, line by line."""
    _, _, text = (ROOT / page).read_text().partition(PAGES[page])
    return [block for block in BLOCK.findall(text) if "import specdyn" not in block]


@pytest.mark.parametrize(
    "dask", [False, pytest.param(True, marks=pytest.mark.skipif(not DASK, reason="needs `pip install dask`"))]
)
@pytest.mark.parametrize("page", PAGES)
def test_the_queries_of_a_page_run(page: str, dask: bool, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    if not dask:
        monkeypatch.setitem(sys.modules, "dask", None)
    namespace: dict[str, Any] = {}
    blocks = queries(page)
    assert blocks and "open_" in blocks[0]
    for block in blocks:
        exec(compile(block, page, "exec"), namespace)


def test_the_mean_barrier_of_the_documents_is_over_pairs_of_one_base_run(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    block = queries("docs/connectivity.md")[0]
    last = block.strip().splitlines()[-1]
    namespace: dict[str, Any] = {}
    exec(block.replace(last, f"found = {last}"), namespace)
    pairs = xr.open_zarr(f"results/studies/{LINES}/connectivity.zarr", chunks=None).load()
    assert set(pairs.kind.values.tolist()) == {"within", "across"}
    of_one = [i for i in range(pairs.sizes["pair"]) if pairs.trunk_a.values[i] == pairs.trunk_b.values[i]]
    barriers = pairs.barrier_loss.sel(kept="all", split="val").values
    assert 0 < len(of_one) < len(barriers)
    np.testing.assert_allclose(namespace["found"].values, [np.mean(barriers[of_one])], rtol=1e-6)
    control = [i for i in range(pairs.sizes["pair"]) if i not in of_one]
    assert not np.isclose(barriers[of_one].mean(), barriers[control].mean()), "or this test tells nothing"


@pytest.mark.skipif(not DASK, reason="needs `pip install dask`")
def test_chunked_results_are_grouped_once_the_label_is_loaded(folder: Path) -> None:
    """As docs/results.md says of dask."""
    url = f"{folder}/results/studies/{DEMO}/results.zarr"
    layers = xr.open_datatree(url, engine="zarr", chunks={})["layers"].to_dataset()
    means = layers.effective_rank.groupby(layers.weight_decay.load()).mean()
    assert means.chunks is not None
    plain = xr.open_datatree(url, engine="zarr")["layers"].to_dataset()
    xr.testing.assert_allclose(means.load(), plain.effective_rank.groupby("weight_decay").mean())
