"""What type checkers see of the library: a program that uses all of it is right, and one that misuses it is not."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
RIGHT = """
import specdyn as sd
import xarray as xr
from torch import nn

net = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 2))
tree: xr.DataTree = sd.analyse({"a": net, "b": net}, ["spectrum"], heads=2, labels={"seed": 0}, progress=False)
apart: xr.DataTree = sd.analyse({"a": net}, labels={"a": {"weight_decay": 0.5}}, metrics="log.jsonl")
ranks = sd.table(net)["effective_rank"]
sweep: xr.DataTree = sd.run("modular_addition", "smoke", weight_decay=[0.0, 1.0], executor="inline", log="wandb")
lines: xr.DataTree = sd.connect([net, "recorded/a"], lambda: net, lambda of: {"loss": 1.0}, inputs=())
opened: xr.DataTree = sd.open("results", "study")
both: xr.DataTree = sd.compare(opened, sweep, names=["old", "new"])
loaded: nn.Module = sd.load_net("results", "abc", step=10)
figure = sd.figure(tree, "effective_rank", by="series")
with sd.Recorder("results", "mine", every=10, settings={"weight_decay": 1.0}, analyse=["spectrum"]) as recorder:
    recorder.step(0, net, loss=1.0)
"""
WRONG = """
import specdyn as sd

sd.analyse("runs", analyses=3)
sd.compare("results", "others")
sd.run("modular_addition", executor="slurm")
"""


def checked(program: str, folder: Path) -> "subprocess.CompletedProcess[str]":
    (folder / "program.py").write_text(program)
    # The project's own settings and cache: the package was checked by them already.
    options = ["--config-file", str(ROOT / "pyproject.toml"), "--cache-dir", str(ROOT / ".mypy_cache")]
    return subprocess.run(
        [sys.executable, "-m", "mypy", *options, str(folder / "program.py")],
        capture_output=True,
        text=True,
        env={**os.environ, "MYPYPATH": str(ROOT)},
        check=False,
    )


def test_a_program_that_uses_all_of_it_is_right(tmp_path: Path) -> None:
    found = checked(RIGHT, tmp_path)
    assert found.returncode == 0, found.stdout


@pytest.mark.parametrize("line", ["analyses=3", 'sd.compare("results"', 'executor="slurm"'])
def test_misuse_is_seen(line: str, tmp_path: Path) -> None:
    found = checked(WRONG, tmp_path)
    number = next(i for i, text in enumerate(WRONG.split("\n"), 1) if line in text)
    assert f"program.py:{number}: error" in found.stdout
