"""The tutorial in docs/extending.md: what it adds is put in place as it stands there, and run."""

import re
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

import specdyn.models.experiments
import specdyn.tasks.analyses
from helpers.pipelines import ROOT
from specdyn.models.experiments.base import get_experiment, read_spec
from specdyn.storage.checkpoints import read_manifest
from specdyn.storage.places import Store

pytestmark = [pytest.mark.integration, pytest.mark.usefixtures("prefect_server")]

ADDED = {"deep_linear": specdyn.models.experiments, "largest_entry": specdyn.tasks.analyses}
"""What the tutorial adds, and the package that finds it by its file name."""


def block(name: str) -> str:
    """The tutorial's block of code that begins with the path of the new module."""
    path = f"{ADDED[name].__name__.removeprefix('specdyn.').replace('.', '/')}/{name}.py"
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "extending.md").read_text(), re.DOTALL)
    (found,) = [block for block in blocks if block.startswith(f"# {path}\n")]
    return str(found)


@pytest.fixture
def added(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The tutorial's modules, each as one file in a folder where such modules are found."""
    for name, package in ADDED.items():
        folder = tmp_path / package.__name__
        folder.mkdir()
        (folder / f"{name}.py").write_text(block(name))
        monkeypatch.setattr(package, "__path__", [*package.__path__, str(folder)])
    yield
    for name, package in ADDED.items():
        sys.modules.pop(f"{package.__name__}.{name}", None)


def test_a_new_experiment_and_a_new_analysis_are_one_short_file_each_and_run(added: None, tmp_path: Path) -> None:
    from specdyn.flows.sweep import weight_decay_sweep

    assert all(len(block(name).splitlines()) < 60 for name in ADDED)
    store = str(tmp_path / "store")
    outcome = weight_decay_sweep(
        experiment="deep_linear", preset="sample", store=store, executor="inline", report=False
    )
    tree = xr.open_datatree(outcome.cube, engine="zarr")
    loss = tree["metrics"]["loss"].sel(split="val")
    assert (loss.isel(step=-1) < 0.05 * loss.isel(step=0)).all()
    layers = tree["layers"].to_dataset()
    # What the tutorial says: as many directions as the true matrix has grow in every layer.
    undecayed = layers.isel(run=np.flatnonzero(layers["weight_decay"].values == 0)[0])
    grown = undecayed["singular_value"].isel(step=-1) / undecayed["singular_value"].isel(step=0)
    assert (grown.isel(rank=slice(0, 4)) > 1.1).all()
    assert (grown.isel(rank=slice(4, None)).median("rank") < 1).all()
    manifest = read_manifest(Store(store).run("deep_linear", str(undecayed["run"].values)))
    assert manifest is not None
    initial = get_experiment("deep_linear").net(read_spec(manifest.spec, "deep_linear")).parameters()
    largest = undecayed["largest_entry"].isel(step=0).values
    assert largest.tolist() == [float(w.detach().abs().max()) for w in initial]
