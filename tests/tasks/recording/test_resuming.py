"""A training that dies and goes on: nothing is mixed, nothing is written twice."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from torch import Tensor

from helpers.recorded import SETTINGS, Loop, weights_at
from specdyn.storage.access import objects
from specdyn.storage.access.objects import StoreError
from specdyn.storage.places import Recording, Store
from specdyn.storage.recordings import read_lines, read_recording, read_step, recorded_steps
from specdyn.tasks.recording.recorder import Recorder

PROGRAM = """
import sys, time
from pathlib import Path
from helpers.recorded import SETTINGS, Loop
from specdyn.tasks.recording.recorder import Recorder
store, state, until, slow = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4])
loop = Loop()
if state.exists():
    loop.load(state)
with Recorder(store, "run", every=10, settings=SETTINGS, resume_from=loop.step or None) as recorder:
    def told(step, model, loss):
        recorder.step(step, model, train_loss=loss)
        if step % 25 == 0:
            loop.save(state)
            print(step, flush=True)
        time.sleep(slow)
    if loop.step == 0:
        recorder.step(0, loop.net)
    loop.run(until, told)
    time.sleep(slow)
print(recorder.errors)
"""


@pytest.fixture
def place(local_store: Store) -> Recording:
    return local_store.recording("run")


def lines(place: Recording) -> dict[int, dict[str, float]]:
    urls = [place.lines(step) for step in recorded_steps(place.metrics, ".jsonl")]
    return {step: line for url in urls for step, line in read_lines(url).items()}


def record(place: Recording, loop: Loop, until: int, **options: object) -> Recorder:
    with Recorder(str(place.store), place.name, every=10, settings=SETTINGS, **options) as recorder:  # type: ignore[arg-type]
        if loop.step == 0:
            recorder.step(0, loop.net)
        loop.run(until, lambda step, model, loss: recorder.step(step, model, train_loss=loss))
    return recorder


def contents(folder: str) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in Path(folder).rglob("*")
        if path.is_file() and path.parent.name != "lease"
    }


def start(place: Recording, state: Path, until: int, slow: float = 0.0) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(place.store), str(state), str(until), str(slow)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        stdout=subprocess.PIPE,
        text=True,
    )


def test_a_training_that_is_killed_and_goes_on_leaves_what_one_leaves_that_was_not(
    place: Recording, tmp_path: Path
) -> None:
    with start(place, tmp_path / "state.pt", 100, slow=0.02) as program:
        assert program.stdout is not None
        while program.stdout.readline().strip() != "50":
            pass
        while 60 not in recorded_steps(place.folder):
            time.sleep(0.01)
        os.kill(program.pid, signal.SIGKILL)
    told = read_recording(place)
    assert told is not None and not told.finished
    assert all(  # whatever is there is whole
        list(read_step(place.checkpoint(step))) == list(weights_at(0)) for step in recorded_steps(place.folder)
    )
    with start(place, tmp_path / "state.pt", 100) as program:
        assert program.communicate()[0].strip().endswith("[]")
    other = Store(str(tmp_path / "other")).recording("run")
    assert record(other, Loop(), 100).errors == []
    found, expected = contents(place.folder), contents(other.folder)
    assert found == expected
    assert read_recording(place) == read_recording(other)


def test_the_same_steps_again_change_nothing(place: Recording) -> None:
    assert record(place, Loop(), 40).errors == []
    before = {name: os.stat(f"{place.folder}/{name}").st_mtime_ns for name in contents(place.folder) if "step" in name}
    again = record(place, Loop(), 40)
    assert again.errors == []
    assert before == {
        name: os.stat(f"{place.folder}/{name}").st_mtime_ns for name in contents(place.folder) if "step" in name
    }


def test_a_training_may_go_on_where_it_had_ended(place: Recording) -> None:
    loop = Loop()
    record(place, loop, 25)
    assert record(place, loop, 50).errors == []
    assert recorded_steps(place.folder) == [0, 10, 20, 25, 30, 40, 50]
    assert list(lines(place)) == [10, 20, 25, 30, 40, 50]


def test_other_weights_at_a_step_are_refused_and_nothing_is_mixed(place: Recording) -> None:
    record(place, Loop(), 40)
    before = contents(place.folder)
    again = record(place, Loop(seed=1), 60)
    assert len(again.errors) == 1
    assert (
        "holds other values than the new ones of step 0" in again.errors[0] and "choose another name" in again.errors[0]
    )
    assert contents(place.folder) == before


def test_other_metrics_at_a_step_are_refused(place: Recording) -> None:
    loop = Loop()
    with Recorder(str(place.store), "run") as recorder:
        recorder.step(0, loop.net, train_loss=1.0, val_loss=float("nan"))
    with Recorder(str(place.store), "run") as recorder:
        recorder.record(0, loop.net, train_loss=1.0, val_loss=float("nan"), train_err=0.5)
    assert recorder.errors == [] and lines(place)[0]["train_err"] == 0.5
    with Recorder(str(place.store), "run") as recorder:
        recorder.record(0, loop.net, train_loss=2.0)
    assert "has train_loss=1.0 at step 0, but the new value is 2.0" in recorder.errors[0]


def test_a_step_between_the_steps_of_another_training_is_refused(place: Recording) -> None:
    record(place, Loop(), 40)
    with Recorder(str(place.store), "run", settings=SETTINGS) as recorder:
        recorder.record(7, Loop(seed=1).net)
    assert "step 7 is missing, but step 40 exists" in recorder.errors[0]
    assert recorded_steps(place.folder) == [0, 10, 20, 30, 40]


@pytest.mark.parametrize(("back", "kept"), [(25, [0, 10, 20]), (20, [0, 10, 20]), (0, [0]), (100, [0, 10, 20, 30, 40])])
def test_resuming_removes_what_comes_after(place: Recording, back: int, kept: list[int]) -> None:
    loop = Loop()
    with Recorder(str(place.store), "run", every=10) as recorder:
        recorder.step(0, loop.net, train_loss=0.0)
        loop.run(40, lambda step, model, loss: (recorder.log(step, val_loss=step), recorder.step(step, model)))
    with Recorder(str(place.store), "run", every=10, resume_from=back) as recorder:
        pass
    assert recorder.errors == []
    assert recorded_steps(place.folder) == kept
    assert set(lines(place)) == {step for step in range(41) if step <= back}


def test_nothing_is_written_beside_what_could_not_be_removed(place: Recording, monkeypatch: pytest.MonkeyPatch) -> None:
    record(place, Loop(), 40)
    real, fails = objects.delete, [True]

    def delete(url: str) -> None:
        if fails[0] and "step=" in url:
            raise StoreError(f"{url}: not reachable")
        real(url)

    monkeypatch.setattr(objects, "delete", delete)
    loop = Loop(seed=1)
    with Recorder(str(place.store), "run", settings=SETTINGS, resume_from=15) as recorder:
        recorder.record(50, loop.net)
        while len(recorder.errors) < 2:
            time.sleep(0.01)
        assert recorded_steps(place.folder) == [0, 10, 20, 30, 40]
        fails[0] = False
        recorder.record(60, loop.net)
    assert recorded_steps(place.folder) == [0, 10, 60]
    assert "steps after 15 are not removed" in recorder.errors[0] and "step 50" in recorder.errors[1]


def test_a_training_that_goes_back_within_a_process_is_recorded_as_it_went_on(place: Recording, tmp_path: Path) -> None:
    loop = Loop()
    with Recorder(str(place.store), "run", every=10) as recorder:
        loop.run(25, lambda step, model, loss: recorder.step(step, model, train_loss=loss))
        loop.save(tmp_path / "state.pt")
        loop.run(45, lambda step, model, loss: recorder.step(step, model, train_loss=loss))
        loop.load(tmp_path / "state.pt")
        torch.manual_seed(9)
        recorder.resume(25)
        expected: dict[int, dict[str, Tensor]] = {}

        def told(step: int, model: torch.nn.Module, loss: Tensor) -> None:
            recorder.step(step, model, train_loss=loss)
            expected[step] = {name: w.clone() for name, w in model.state_dict().items()}

        loop.run(50, told)
    assert recorder.errors == []
    assert recorded_steps(place.folder) == [1, 10, 20, 30, 40, 50]
    for step in (30, 40, 50):
        found = read_step(place.checkpoint(step))
        assert all(torch.equal(found[name], expected[step][name]) for name in found)


@pytest.mark.parametrize(
    ("options", "named"),
    [({"settings": {"seed": 1}}, "settings"), ({"keep": "spectra"}, "keep"), ({"settings": {}}, "settings")],
)
def test_a_name_with_other_settings_is_refused(place: Recording, options: dict[str, object], named: str) -> None:
    record(place, Loop(), 10)
    before = contents(place.folder)
    with pytest.raises(ValueError, match=rf"was recorded with {named}=.*choose another name"):
        Recorder(str(place.store), "run", **{"settings": SETTINGS, **options})  # type: ignore[arg-type]
    assert contents(place.folder) == before


def test_two_recorders_under_one_name_are_refused_until_the_first_is_closed(place: Recording) -> None:
    first = Recorder(str(place.store), "run")
    with pytest.raises(StoreError, match=rf"held by process {os.getpid()}.*choose another name"):
        Recorder(str(place.store), "run")
    with Recorder(str(place.store), "another"):
        pass
    first.close()
    Recorder(str(place.store), "run").close()


def test_a_process_that_another_one_records_beside_is_refused(place: Recording, tmp_path: Path) -> None:
    with start(place, tmp_path / "state.pt", 10_000, slow=0.01) as program:
        assert program.stdout is not None
        program.stdout.readline()
        with pytest.raises(StoreError, match=f"held by process {program.pid}"):
            Recorder(str(place.store), "run", settings=SETTINGS)
        program.kill()
    Recorder(str(place.store), "run", settings=SETTINGS).close()


def test_a_program_that_forgets_to_close_loses_nothing(place: Recording) -> None:
    text = """
import sys
from helpers.recorded import Loop
from specdyn.tasks.recording.recorder import Recorder
loop, recorder = Loop(), Recorder(sys.argv[1], "run", every=10)
loop.run(15, lambda step, model, loss: recorder.step(step, model))
"""
    subprocess.run(
        [sys.executable, "-c", text, str(place.store)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        check=True,
    )
    assert recorded_steps(place.folder) == [1, 10, 15]
    assert not json.loads(Path(place.record).read_text())["finished"]


def test_a_forked_process_leaves_the_recorder_to_its_parent(place: Recording) -> None:
    loop = Loop()
    with Recorder(str(place.store), "run", every=1) as recorder:
        recorder.step(0, loop.net)
        if (pid := os.fork()) == 0:
            recorder.step(1, loop.net)
            recorder.close()
            os._exit(0)
        assert os.waitpid(pid, 0)[1] == 0
        recorder.step(1, loop.net)
    assert recorder.errors == [] and recorded_steps(place.folder) == [0, 1]
