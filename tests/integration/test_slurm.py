"""deploy/slurm/specdyn.sbatch on a real SLURM of two nodes: a sweep runs on both, and nothing is done twice."""

import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from helpers.pipelines import NAME, ROOT, SMOKE, files
from helpers.slurm import NODES, Slurm, missing_programs, slurm
from specdyn.storage.places import Store
from specdyn.storage.query import open_results

pytestmark = [
    pytest.mark.integration,
    pytest.mark.scenario,
    pytest.mark.skipif(bool(missing_programs()), reason=f"not installed: {', '.join(missing_programs())}"),
]

SCRIPT = ROOT / "deploy" / "slurm" / "specdyn.sbatch"
TRAINED = re.compile(r":(\d+) INFO run ([0-9a-f]+): training from step 0")
LIGHT = ("--cpus-per-task=1", "--mem=1G", "--time=10")
"""Less than the file asks for: Ray starts a process for every CPU."""


@pytest.fixture(scope="module")
def cluster() -> Iterator[Slurm]:
    """A SLURM of two nodes."""
    with slurm() as running:
        yield running


def test_a_sweep_runs_on_all_nodes_of_a_job_and_nothing_is_done_twice(
    cluster: Slurm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    store = tmp_path / "store"
    for name, value in {
        "SPECDYN_VENV": sys.prefix,
        "SPECDYN_SHARED": str(shared),
        "PREFECT_HOME": str(tmp_path / "prefect"),
        "PYTHONPATH": os.environ.get("PYTHONPATH", str(ROOT)),
    }.items():
        monkeypatch.setenv(name, value)
    sweep = ("specdyn", "run", NAME, "--preset", "smoke", "--store", str(store), "--no-report", "-s", "0,1,2,3")

    job = cluster.run(LIGHT, SCRIPT, *sweep)
    assert (job.state, job.exit_code) == ("COMPLETED", "0:0"), job.log
    assert list(shared.iterdir()) == [], "the token is left behind"
    layers = open_results(Store(str(store)).cube(SMOKE))["layers"]
    assert sorted(layers["weight_decay"].values.tolist()) == [0.0] * 4 + [1.0] * 4
    assert np.isfinite(layers["effective_rank"].values).all()
    logs = [path.read_text() for path in (store / "logs").rglob("trainings-*.log")]
    trained = {run: int(pid) for log in logs for pid, run in TRAINED.findall(log)}
    assert len(logs) == len(trained) == 8
    # More runs than the first node ends while the second one's worker starts.
    assert sorted({job.nodes[pid] for pid in trained.values()}) == list(NODES)

    before = files(store)
    again = cluster.run((*LIGHT, "--nodes=1"), SCRIPT, *sweep)
    assert (again.state, again.exit_code) == ("COMPLETED", "0:0"), again.log
    assert "8 runs already done: nothing to do" in again.log
    assert files(store) == before
