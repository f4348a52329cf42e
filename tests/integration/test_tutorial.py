"""The tutorial in docs/extending.md, as a user follows it: its files in a folder, beside an installed specdyn."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import xarray as xr
from safetensors.torch import save_file

from helpers.pipelines import ROOT, at_server
from specdyn.models.experiments.base import get_experiment, read_spec
from specdyn.models.plugins import places
from specdyn.storage.checkpoints import read_manifest
from specdyn.storage.places import Store
from specdyn.tasks.plan.sources import look

pytestmark = [pytest.mark.integration, pytest.mark.scenario, pytest.mark.usefixtures("prefect_server")]

FILES = ("deep_linear", "largest_entry", "opt", "peaks")
BUILD = ("pyproject.toml", "README.md", "LICENSE")
STUDY = "deep_linear-sample"


def block(name: str) -> str:
    """The tutorial's block of code that begins with the path of the new file."""
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "extending.md").read_text(), re.DOTALL)
    (found,) = [block for block in blocks if block.startswith(f"# lab/{name}.py\n")]
    return str(found)


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what the wheel of this repository installs; built of a copy, as a build leaves files."""
    folder = tmp_path_factory.mktemp("wheel")
    shutil.copytree(ROOT / "specdyn", folder / "source" / "specdyn", ignore=shutil.ignore_patterns("__pycache__"))
    for name in BUILD:
        shutil.copy(ROOT / name, folder / "source")
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    offline = ["--no-deps", "--no-index", "--no-build-isolation"]
    subprocess.run([*pip, "wheel", *offline, "--wheel-dir", str(folder), str(folder / "source")], check=True)
    (wheel,) = folder.glob("specdyn-*.whl")
    subprocess.run([*pip, "install", *offline, "--target", str(folder / "target"), str(wheel)], check=True)
    return folder / "target"


@pytest.fixture
def work(tmp_path: Path) -> Path:
    """A working folder with the tutorial's files in `lab`."""
    (tmp_path / "work" / "lab").mkdir(parents=True)
    for name in FILES:
        (tmp_path / "work" / "lab" / f"{name}.py").write_text(block(name))
    return tmp_path / "work"


def call(installed: Path, work: Path, *words: str) -> str:
    """All that the installed command says in the working folder."""
    ended = subprocess.run(
        [sys.executable, "-m", "specdyn", *words],
        cwd=work,
        env={**os.environ, **at_server(), "PYTHONPATH": str(installed), "COLUMNS": "200"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=400,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout
    return ended.stdout


def test_what_is_run_here_is_the_wheel(installed: Path, work: Path) -> None:
    assert all(len(block(name).splitlines()) < 60 for name in FILES)
    said = call(installed, work, "--plugins", "lab", "list")
    assert "lab/deep_linear.py" in said
    where = [sys.executable, "-c", "import specdyn; print(specdyn.__file__)"]
    environment = {**os.environ, "PYTHONPATH": str(installed)}
    found = subprocess.run(where, cwd=work, env=environment, capture_output=True, text=True, check=True)
    assert Path(found.stdout.strip()).is_relative_to(installed)


@pytest.mark.parametrize("executor", ["inline", "ray"])
def test_the_experiment_and_the_analysis_run_and_an_edit_is_computed_again(
    executor: str, installed: Path, work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = ("--plugins", "lab", "run", "deep_linear", "--store", "store", "--no-report", "--executor", executor)
    assert "2 runs finished" in call(installed, work, *run)
    store = Store(str(work / "store"))
    tree = xr.open_datatree(store.cube(STUDY), engine="zarr")
    loss = tree["metrics"]["loss"].sel(split="val")
    assert (loss.isel(step=-1) < 0.05 * loss.isel(step=0)).all()
    layers = tree["layers"].to_dataset().load()
    # What the tutorial says: as many directions as the true matrix has grow in every layer.
    undecayed = layers.isel(run=np.flatnonzero(layers["weight_decay"].values == 0)[0])
    grown = undecayed["singular_value"].isel(step=-1) / undecayed["singular_value"].isel(step=0)
    assert (grown.isel(rank=slice(0, 4)) > 1.1).all()
    assert (grown.isel(rank=slice(4, None)).median("rank") < 1).all()
    monkeypatch.setenv(places.PATHS, str(work / "lab"))
    places.forget()
    manifest = read_manifest(store.run("deep_linear", str(undecayed["run"].values)))
    assert manifest is not None
    initial = get_experiment("deep_linear").net(read_spec(manifest.spec, "deep_linear")).parameters()
    largest = undecayed["largest_entry"].isel(step=0).values
    assert largest.tolist() == [float(w.detach().abs().max()) for w in initial]
    plot = ("--plugins", "lab", "plot", STUDY, "peaks", "--store", "store", "--out", "peaks.svg")
    call(installed, work, *plot)
    drawn = (work / "peaks.svg").read_text()
    assert all(text in drawn for text in ("largest entry / spectral norm", "weight decay 0.0", "weight decay 1.0"))
    # The second half of the tutorial: what an edit does.
    file = work / "lab" / "largest_entry.py"
    file.write_text(file.read_text().replace("float(", "2 * float("))
    said = call(installed, work, *run)
    (made,) = (line for line in said.splitlines() if line.startswith("made "))
    assert "decompositions" in made and "training" not in made
    again = xr.open_datatree(store.cube(STUDY), engine="zarr")["layers"].to_dataset()
    np.testing.assert_array_equal(again["largest_entry"], 2 * layers["largest_entry"])
    np.testing.assert_array_equal(again["singular_value"], layers["singular_value"])
    assert "already done: nothing to do" in call(installed, work, *run)
    file = work / "lab" / "deep_linear.py"
    file.write_text(file.read_text().replace("F.mse_loss(", "2 * F.mse_loss("))
    said = call(installed, work, "--plugins", "lab", "status", STUDY, "--store", "store")
    assert f"2 runs of {STUDY} are of another version of deep_linear's source" in said
    assert "2 of 2 trainings" in call(installed, work, *run, "--plan")


def opt(folder: Path, width: int = 8, blocks: int = 2) -> None:
    """Three checkpoints with the names of an OPT model."""
    torch.manual_seed(0)
    for step in (0, 10, 20):
        weights = {"model.decoder.embed_tokens.weight": torch.randn(20, width)}
        for i in range(blocks):
            at = f"model.decoder.layers.{i}."
            for name in ("q_proj", "k_proj", "v_proj", "out_proj"):
                weights[f"{at}self_attn.{name}.weight"] = torch.randn(width, width)
            weights[f"{at}fc1.weight"] = torch.randn(4 * width, width)
            weights[f"{at}fc2.weight"] = torch.randn(width, 4 * width)
        (folder / f"step={step}").mkdir(parents=True)
        save_file(weights, folder / f"step={step}" / "model.safetensors")


@pytest.mark.parametrize("executor", ["inline", "ray"])
def test_the_family_and_the_analysis_apply_to_checkpoints_of_another_program(
    executor: str, installed: Path, work: Path
) -> None:
    opt(work / "model")
    asked = ("analyse", "model", "--store", "store", "--name", "mine", "--no-report", "--executor", executor)
    assert "family: opt (its tensors have names such as" in call(installed, work, "--plugins", "lab", *asked)
    cube = xr.open_datatree(Store(str(work / "store")).cube("mine"), engine="zarr")
    pairs = cube["pairs"].to_dataset()["pair"].values.tolist()
    assert "decoder.layers.0.fc1.weight -> decoder.layers.0.fc2.weight" in pairs
    assert np.isfinite(cube["layers"]["largest_entry"]).all()
    assert look(str(work / "model")).layout.family != "opt", "without the file it is not known"
