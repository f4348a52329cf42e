"""specdyn beside a researcher's own code, whose folders have the names of its packages."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from helpers.pipelines import at_server
from specdyn.storage.places import Store
from specdyn.storage.query import open_results

pytestmark = [pytest.mark.integration, pytest.mark.scenario, pytest.mark.usefixtures("prefect_server")]

PROGRAM = """
from models import NETWORK
from storage import PLACE
import specdyn
from specdyn.flows.sweep import weight_decay_sweep

if __name__ == "__main__":
    done = weight_decay_sweep("modular_addition", "smoke", weight_decays=[1.0], store=PLACE, report=False)
    print(NETWORK, len(done.ran), sorted(specdyn.open(done.cube).groups))
"""


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """A project with packages `flows`, `models`, `storage` and `tasks` of its own."""
    for name in ("flows", "tasks"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("raise RuntimeError('the wrong package')\n")
    for name, line in {"models": "NETWORK = 'mine'", "storage": "PLACE = 'results'"}.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text(f"{line}\n")
    (tmp_path / "train.py").write_text(PROGRAM)
    return tmp_path


def call(folder: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env={**environment, **at_server()},
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
    )


def test_a_program_and_the_command_in_one_folder(own: Path) -> None:
    """The program's tasks run on Ray, whose workers start in the same folder."""
    made = call(own, "train.py")
    assert made.returncode == 0, made.stderr
    assert made.stdout.startswith("mine 1 ["), made.stdout
    asked = ("run", "modular_addition", "--preset", "smoke", "-w", "1", "--store", "results", "--no-report")
    again = call(own, "-m", "specdyn", *asked)
    assert again.returncode == 0, again.stderr
    assert again.stderr == "1 run already done: nothing to do\n", "and neither Prefect nor Ray was started"
    cube = Store(str(own / "results")).cube("modular_addition-smoke")
    assert open_results(cube)["layers"].sizes["run"] == 1
