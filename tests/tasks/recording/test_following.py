"""A recording that another process analyses while training goes on: what it leaves, and what happens where one dies."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from helpers.recorded import SETTINGS, Loop
from specdyn.flows.parameters import AnalyseParameters
from specdyn.flows.studies import series_from
from specdyn.storage.places import Recording, Store
from specdyn.storage.query import open_results
from specdyn.storage.recordings import recorded_steps
from specdyn.tasks.plan.gathering import finished_results
from specdyn.tasks.plan.here import run_here
from specdyn.tasks.plan.series import SeriesStudy
from specdyn.tasks.recording.following import Following
from specdyn.tasks.recording.recorder import Recorder

ANALYSES = ("effective_rank", "agreement", "alignment", "trajectory")
"""Of one checkpoint, of that and the last, of pairs, of the whole run."""
PROGRAM = """
import sys, time
from helpers.recorded import SETTINGS, Loop
from specdyn.tasks.recording.recorder import Recorder
loop = Loop()
with Recorder(sys.argv[1], "run", every=10, settings=SETTINGS, analyse=sys.argv[2:]) as recorder:
    recorder.step(0, loop.net)
    loop.run(30, lambda step, model, loss: recorder.step(step, model, train_loss=loss))
    print("trained", flush=True)
    time.sleep(600)
"""


@pytest.fixture
def place(local_store: Store) -> Recording:
    return local_store.recording("run")


def until(there: Callable[[], object], seconds: float = 120) -> None:
    """Wait for something."""
    end = time.monotonic() + seconds
    while not there():
        assert time.monotonic() < end
        time.sleep(0.05)


def study(place: Recording, store: Store) -> SeriesStudy:
    """What `specdyn analyse` makes of the recording."""
    asked = AnalyseParameters(sources=[place.folder], name="run", analyses=list(ANALYSES), store=store.url)
    return series_from(asked)


def test_training_that_is_killed_and_goes_on_has_the_results_of_the_command(place: Recording, tmp_path: Path) -> None:
    results = Path(place.store.url, "results")
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM, place.store.url, *ANALYSES],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        stdout=subprocess.PIPE,
    ) as program:
        until(lambda: len({path.name.split("-")[0] for path in results.rglob("*.safetensors")}) >= 1)
        os.kill(program.pid, signal.SIGKILL)
    assert not (Path(place.store.studies) / "run" / "drawn.json").exists()
    recorded, bare = Loop(), Loop()
    with Recorder(place.store.url, "run", every=10, settings=SETTINGS, resume_from=0, analyse=ANALYSES) as recorder:
        torch.manual_seed(3)
        losses = recorded.run(45, lambda step, model, loss: recorder.step(step, model, train_loss=loss))
    torch.manual_seed(3)
    assert losses == bare.run(45), "training is the same to the bit"
    assert recorder.errors == [] and recorded_steps(place.folder) == [0, 10, 20, 30, 40, 45]
    assert finished_results(study(place, place.store), place.store, report=False), "the command has nothing to do"
    other = Store(str(tmp_path / "other"))
    assert run_here(study(place, other), other, report=False).failures == {}
    ours, theirs = (open_results(store.cube("run")).load() for store in (place.store, other))
    compared = 0
    for node in theirs.subtree:
        for name, variable in node.to_dataset(inherit=False).variables.items():
            if node.path != "/runs":
                np.testing.assert_array_equal(ours[node.path].to_dataset().variables[name].values, variable.values)
                compared += 1
    assert compared > 30 and theirs["metrics"]["loss"].notnull().any()


def test_an_analysis_that_is_killed_is_said_and_training_goes_on(place: Recording) -> None:
    with Recorder(place.store.url, "run", every=10, analyse=["effective_rank"]) as recorder:
        assert recorder._writing and recorder._writing._analysis
        following, loop = recorder._writing._analysis, Loop()
        recorder.step(0, loop.net)
        os.kill(following._process.pid, signal.SIGKILL)
        until(lambda: recorder.errors)
        loop.run(20, lambda step, model, loss: recorder.step(step, model))
    assert recorder.errors == ["the analysis ended with -9: call `specdyn analyse` for what is left"]
    assert recorded_steps(place.folder) == [0, 10, 20]


def test_training_waits_for_an_analysis_that_is_behind_where_that_is_wanted(
    place: Recording, monkeypatch: pytest.MonkeyPatch
) -> None:
    behind, told = list[int](), Following.told

    def counted(self: Following, step: int) -> None:
        told(self, step)
        behind.append(len(self._behind))

    monkeypatch.setattr(Following, "told", counted)
    loop, asked = Loop(), {"every": 1, "pending": 2, "analyse": ["effective_rank"]}
    with Recorder(place.store.url, "run", when_behind="wait", **asked) as recorder:  # type: ignore[arg-type]
        loop.run(8, lambda step, model, loss: recorder.step(step, model))
    assert recorder.errors == [] and len(behind) == 8 and max(behind) <= 2
    with Recorder(place.store.url, "run", resume_from=8, **asked) as recorder:  # type: ignore[arg-type]
        loop.run(16, lambda step, model, loss: recorder.step(step, model))
        until(lambda: len(behind) == 16)
    assert max(behind) > 2, "it started when training had ended"
    assert open_results(place.store.cube("run"))["layers"]["effective_rank"].notnull().all()


def test_a_program_that_fails_does_not_wait(place: Recording) -> None:
    def failing() -> None:
        with Recorder(place.store.url, "run", every=10, analyse=True) as recorder:
            recorder.step(0, Loop().net)
            assert recorder._writing and recorder._writing._analysis
            ends.append(recorder._writing._analysis._process)
            raise KeyError("loop")

    ends: list[subprocess.Popen[str]] = []
    with pytest.raises(KeyError):
        failing()
    assert ends[0].stdin is not None and ends[0].stdin.closed
    ends[0].wait(120)
    assert ends[0].returncode == 0, "it ended by itself"


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"keep": "spectra", "analyse": True}, "analyse=True is not allowed: expected False"),
        ({"analyse": ["effective_rnk"]}, "unknown analysis 'effective_rnk'"),
        ({"analyse": ["performance"]}, "analyses that need no data"),
        ({"analyse": True, "when_behind": "skip"}, "when_behind='skip' is not allowed: expected one of later, wait"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_written(
    place: Recording, given: dict[str, object], says: str
) -> None:
    with pytest.raises(ValueError, match=says):
        Recorder(place.store.url, "run", **given)  # type: ignore[arg-type]
    assert not Path(place.folder).exists()
