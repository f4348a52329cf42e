"""The README's tutorial: the experiment that it adds is put in place as it stands there, and run."""

import re
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from pipelines import ROOT

import models.experiments

pytestmark = [pytest.mark.integration, pytest.mark.usefixtures("prefect_server")]


def tutorial() -> str:
    """The README's block of code that begins with the name of a new experiment."""
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    found = [block for block in blocks if block.startswith("# models/experiments/deep_linear.py\n")]
    assert len(found) == 1
    return found[0]


@pytest.fixture
def experiment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The experiment of the tutorial, as one file in a folder where experiments are found."""
    (tmp_path / "deep_linear.py").write_text(tutorial())
    monkeypatch.setattr(models.experiments, "__path__", [*models.experiments.__path__, str(tmp_path)])
    yield "deep_linear"
    sys.modules.pop("models.experiments.deep_linear", None)


def test_a_new_experiment_is_one_short_file_and_runs(experiment: str, tmp_path: Path) -> None:
    from flows.weight_decay_sweep import weight_decay_sweep

    assert len(tutorial().splitlines()) < 60
    store = str(tmp_path / "store")
    outcome = weight_decay_sweep(experiment=experiment, preset="sample", store=store, executor="inline", report=False)
    tree = xr.open_datatree(outcome["cube"], engine="zarr")
    loss = tree["metrics"]["loss"].sel(split="val")
    assert (loss.isel(step=-1) < 0.05 * loss.isel(step=0)).all()
    # What the README says: as many directions as the true matrix has grow in every layer.
    values = tree["layers"]["singular_value"].isel(run=np.flatnonzero(tree["layers"]["weight_decay"].values == 0)[0])
    grown = values.isel(step=-1) / values.isel(step=0)
    assert (grown.isel(rank=slice(0, 4)) > 1.1).all()
    assert (grown.isel(rank=slice(4, None)).median("rank") < 1).all()
