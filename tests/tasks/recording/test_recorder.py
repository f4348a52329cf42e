"""Recording a loop of one's own: what is written, and that training does not notice."""

import json
import logging
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import specdyn
from helpers.recorded import SETTINGS, Loop, net, weights_at
from specdyn.storage.access import objects
from specdyn.storage.access.objects import StoreError
from specdyn.storage.foreign.find import find_checkpoints
from specdyn.storage.places import Recording, Store
from specdyn.storage.recordings import read_lines, read_recording, read_step, recorded_steps
from specdyn.tasks.recording.recorder import MOST_ERRORS, Recorder


@pytest.fixture
def place(local_store: Store) -> Recording:
    return local_store.recording("run")


def metrics(place: Recording) -> dict[int, dict[str, float]]:
    urls = [place.lines(step) for step in recorded_steps(place.metrics, ".jsonl")]
    return {step: line for url in urls for step, line in read_lines(url).items()}


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return list(a) == list(b) and all(torch.equal(a[name], b[name]) for name in a)


def record(place: Recording, loop: Loop, until: int, **options: object) -> Recorder:
    with Recorder(str(place.store), place.name, settings=SETTINGS, **options) as recorder:  # type: ignore[arg-type]
        if loop.step == 0:
            recorder.step(0, loop.net)
        loop.run(until, lambda step, model, loss: recorder.step(step, model, train_loss=loss))
    return recorder


def test_checkpoints_and_metrics_match_the_training(place: Recording) -> None:
    recorder = record(place, Loop(), 25, every=10)
    assert recorder.errors == [] and recorder.skipped == []
    assert recorded_steps(place.folder) == [0, 10, 20, 25]
    assert all(same(read_step(place.checkpoint(step)), weights_at(step)) for step in (0, 10, 20, 25))
    losses = Loop().run(25)
    assert metrics(place) == {step: {"train_loss": losses[step - 1]} for step in (10, 20, 25)}
    assert json.loads(objects.read(place.labels)) == SETTINGS
    told = read_recording(place)
    assert told is not None
    assert (told.every, told.finished, told.settings, told.keep) == (10, True, SETTINGS, "checkpoints")
    assert told.versions["torch"] == torch.__version__


def test_it_is_a_series_for_specdyn_analyse(place: Recording) -> None:
    record(place, Loop(), 25, every=10)
    found = find_checkpoints(place.folder)
    assert [checkpoint.step for checkpoint in found.checkpoints] == [0, 10, 20, 25]
    assert found.unit == "steps" and found.repeated == () and found.skipped == ()
    assert list(found.checkpoints[1].weights()) == list(weights_at(10))


def test_a_loop_is_the_same_to_the_bit_with_and_without(place: Recording) -> None:
    bare, recorded = Loop(), Loop()
    torch.manual_seed(3)
    losses = bare.run(30)
    torch.manual_seed(3)
    hooks = [len(module._forward_hooks) + len(module._backward_hooks) for module in recorded.net.modules()]
    with Recorder(str(place.store), "run", every=1) as recorder:
        told = recorded.run(30, lambda step, model, loss: recorder.step(step, model, train_loss=loss))
    assert told == losses
    assert same(dict(recorded.net.state_dict()), dict(bare.net.state_dict()))
    assert all(module.training for module in recorded.net.modules())
    assert hooks == [len(module._forward_hooks) + len(module._backward_hooks) for module in recorded.net.modules()]


@pytest.mark.parametrize(
    ("options", "steps"),
    [
        ({}, [0, 100, 120]),
        ({"every": 50}, [0, 50, 100, 120]),
        ({"at": [3, 7]}, [0, 3, 7, 120]),
        ({"per_decade": 2}, [0, 1, 3, 10, 32, 100, 120]),
        ({"every": 60, "at": [1]}, [0, 1, 60, 120]),
        ({"every": 0}, [0, 120]),
    ],
)
def test_the_first_and_the_last_step_are_there_whatever_the_schedule(
    place: Recording, options: dict[str, object], steps: list[int]
) -> None:
    record(place, Loop(), 120, **options)
    assert recorded_steps(place.folder) == steps


def test_costly_metrics_are_asked_for_where_a_step_is_due(place: Recording) -> None:
    loop, asked = Loop(), []
    with Recorder(str(place.store), "run", every=10) as recorder:
        for step in range(1, 26):
            loop.update()
            due = recorder.due(step)
            asked += [step] if due else []
            recorder.step(step, loop.net, val_error=0.5 if due else None)
        recorder.log(23, val_loss=torch.tensor(2.0))
        recorder.record(24, loop.net)  # goes back: noted, not raised
    assert asked == [1, 10, 20]
    assert metrics(place) == {
        1: {"val_error": 0.5},
        10: {"val_error": 0.5},
        20: {"val_error": 0.5},
        23: {"val_loss": 2.0},
    }
    assert len(recorder.errors) == 1 and "resume(24)" in recorder.errors[0]


def test_the_first_batch_that_names_a_step_counts(place: Recording) -> None:
    """Gradients of four batches are accumulated: the step is the number of updates."""
    loop = Loop()
    expected: dict[int, dict[str, Tensor]] = {}
    with Recorder(str(place.store), "run", every=2) as recorder:
        for batch in range(1, 25):
            (loop.net(loop.inputs) - loop.targets).square().mean().backward()
            if batch % 4 == 0:
                loop.optimizer.step()
                loop.optimizer.zero_grad()
            updates = batch // 4
            if updates not in expected:
                expected[updates] = {name: w.clone() for name, w in loop.net.state_dict().items()}
            recorder.step(updates, loop.net)
    assert recorded_steps(place.folder) == [0, 2, 4, 6]
    assert all(same(read_step(place.checkpoint(step)), expected[step]) for step in (0, 2, 4, 6))


def test_tied_weights_are_kept_once_and_named(place: Recording) -> None:
    model = nn.ModuleDict({"embed": nn.Embedding(10, 4), "head": nn.Linear(4, 10, bias=False)})
    model["head"].weight = model["embed"].weight
    with Recorder(str(place.store), "run") as recorder:
        recorder.step(0, model)
    assert list(read_step(place.checkpoint(0))) == ["embed.weight"]
    told = read_recording(place)
    assert told is not None and told.tied == {"head.weight": "embed.weight"}


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of the compiler's own modules
def test_names_have_no_wrappers(place: Recording) -> None:
    model = net()
    wrapped = nn.DataParallel(torch.compile(model))  # type: ignore[arg-type]
    with Recorder(str(place.store), "run") as recorder:
        recorder.step(0, wrapped)
    assert recorder.errors == []
    assert list(read_step(place.checkpoint(0))) == list(model.state_dict())


def test_a_network_that_one_process_cannot_copy_is_noted_and_not_waited_for(place: Recording) -> None:
    model, flat = net(), type("FullyShardedDataParallel", (nn.Sequential,), {})(net())
    next(model.parameters()).ds_id = 0  # type: ignore[attr-defined]
    with Recorder(str(place.store), "run") as recorder:
        recorder.step(0, model)
        recorder.step(0, flat)
    assert "ZeRO" in recorder.errors[0] and "FullyShardedDataParallel" in recorder.errors[1]
    assert recorded_steps(place.folder) == []


def test_weights_that_change_after_the_last_step_are_not_mistaken_for_it(place: Recording) -> None:
    loop = Loop()
    with Recorder(str(place.store), "run", every=10) as recorder:
        loop.run(15, lambda step, model, loss: recorder.step(step, model))
        loop.net.load_state_dict(net(seed=1).state_dict())
    assert recorded_steps(place.folder) == [1, 10]
    assert "step 15, the last" in recorder.errors[0]


def test_an_interrupted_training_keeps_its_last_step_and_is_not_finished(place: Recording) -> None:
    def stopped(step: int, model: nn.Module, loss: Tensor) -> None:
        recorder.step(step, model)
        if step == 15:
            raise KeyboardInterrupt

    recorder = Recorder(str(place.store), "run", every=10)
    with pytest.raises(KeyboardInterrupt), recorder:
        Loop().run(20, stopped)
    assert recorded_steps(place.folder) == [1, 10, 15]
    told = read_recording(place)
    assert told is not None and not told.finished


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"name": "a/b"}, "name"),
        ({"every": -1}, "every"),
        ({"every": 2.5}, "every"),
        ({"at": [-1]}, "at"),
        ({"per_decade": -1}, "per_decade"),
        ({"keep": "everything"}, "keep"),
        ({"layers": "attn"}, "layers"),
        ({"keep": "spectra", "layers": "("}, "layers.*regular expression"),
        ({"resume_from": -1}, "resume_from"),
        ({"when_full": "drop"}, "when_full"),
        ({"pending": 0}, "pending"),
        ({"settings": {"net": object()}}, "settings"),
    ],
)
def test_wrong_arguments_are_refused_by_name(local_store: Store, options: dict[str, object], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        Recorder(**{"store": str(local_store), "name": "run", **options})  # type: ignore[arg-type]
    assert objects.find(local_store.url) == []


def test_a_store_that_cannot_be_used_is_refused_before_training() -> None:
    with pytest.raises(StoreError, match="a part of this path is a file"):
        Recorder(str(Path(__file__)), "run")


def test_wrong_metrics_and_steps_are_noted_and_never_raise(place: Recording) -> None:
    loop = Loop()
    with Recorder(str(place.store), "run", every=1) as recorder:
        recorder.step(0, loop.net, loss=torch.zeros(2), accuracy="good", train_loss=1.0)
        recorder.step(0.5, loop.net)  # type: ignore[arg-type]
        recorder.step(1, None)  # type: ignore[arg-type]
        recorder.log(1, **{"step": 2})
    recorder.step(2, loop.net)
    assert recorded_steps(place.folder) == [0] and metrics(place) == {0: {"train_loss": 1.0}}
    assert [error.split("'")[1] for error in recorder.errors[:2]] == ["loss", "accuracy"]
    assert "after close()" in recorder.errors[-1] and len(recorder.errors) == 6


def test_errors_are_logged_once_and_kept_up_to_a_number(place: Recording, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING), Recorder(str(place.store), "run") as recorder:
        for step in range(2 * MOST_ERRORS):
            recorder.step(step, None)  # type: ignore[arg-type]
    assert len(recorder.errors) == MOST_ERRORS and len(caplog.records) == 1


def test_it_can_be_switched_off(local_store: Store) -> None:
    with Recorder(str(local_store), "run", enabled=False) as recorder:
        recorder.step(0, net(), train_loss=1.0)
        recorder.log(0, val_loss=1.0)
        recorder.resume(0)
        assert not recorder.due(100)
    assert objects.find(local_store.url) == [] and recorder.errors == [] and recorder.share == 0


def test_its_share_of_the_time_is_counted(place: Recording) -> None:
    loop = Loop()
    with Recorder(str(place.store), "run", every=10) as recorder:
        for step in range(20):
            recorder.step(step, loop.net)
            time.sleep(0.01)
        assert 0 < recorder.share < 1


class Held:
    """Writing waits until it is let go."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.go, self.begun, real = threading.Event(), threading.Event(), objects.create

        def create(url: str, data: bytes) -> bool:
            if "step=" in url:
                self.begun.set()
                assert self.go.wait(60)
            return real(url, data)

        monkeypatch.setattr(objects, "create", create)


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> Iterator[Held]:
    held = Held(monkeypatch)
    yield held
    held.go.set()


def test_steps_are_skipped_while_the_queue_is_full_but_never_the_last(
    place: Recording, held: Held, caplog: pytest.LogCaptureFixture
) -> None:
    loop = Loop()
    recorder = Recorder(str(place.store), "run", every=1, when_full="skip", pending=2)
    with caplog.at_level(logging.WARNING):
        for step in range(8):
            recorder.step(step, loop.net, train_loss=1.0)
            loop.update()
            assert held.begun.wait(60)
        recorder.step(8, loop.net)
    assert recorder.skipped == [3, 4, 5, 6, 7, 8]  # one is being written, and two wait
    assert len(caplog.records) == 1
    threading.Timer(0.2, held.go.set).start()
    recorder.close()
    assert recorded_steps(place.folder) == [0, 1, 2, 8] and recorder.errors == []


def test_the_loop_waits_where_it_is_asked_to_and_nothing_is_lost(place: Recording, held: Held) -> None:
    loop = Loop()
    since = time.monotonic()
    threading.Timer(0.4, held.go.set).start()
    with Recorder(str(place.store), "run", every=1, pending=1) as recorder:
        loop.run(8, lambda step, model, loss: recorder.step(step, model))
        assert time.monotonic() - since > 0.3
    assert recorded_steps(place.folder) == list(range(1, 9)) and recorder.skipped == []


def test_the_loop_does_not_wait_for_a_write(place: Recording, held: Held) -> None:
    loop = Loop()
    with Recorder(str(place.store), "run", every=10) as recorder:
        loop.run(15, lambda step, model, loss: recorder.step(step, model))
        assert recorded_steps(place.folder) == []
        held.go.set()
    assert recorded_steps(place.folder) == [1, 10, 15]


def test_a_copy_is_of_its_step_whatever_training_does_before_it_is_written(place: Recording, held: Held) -> None:
    loop = Loop()
    with Recorder(str(place.store), "run", every=10) as recorder:
        loop.run(25, lambda step, model, loss: recorder.step(step, model))
        held.go.set()
    assert all(same(read_step(place.checkpoint(step)), weights_at(step)) for step in (1, 10, 20, 25))


def test_a_store_that_fails_is_noted_and_recording_goes_on_when_it_is_back(
    place: Recording, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    real, fails, done = objects.create, [False], threading.Event()

    def create(url: str, data: bytes) -> bool:
        if fails[0] and "step=" in url:
            done.set()
            raise StoreError(f"{url}: not reachable")
        made = real(url, data)
        if url.endswith(".safetensors"):
            done.set()
        return made

    monkeypatch.setattr(objects, "create", create)
    loop = Loop()
    with caplog.at_level(logging.WARNING), Recorder(str(place.store), "run", every=1) as recorder:
        for step in range(9):
            fails[0] = 3 <= step < 6
            recorder.step(step, loop.net, train_loss=float(step))
            assert done.wait(60)
            done.clear()
    assert recorded_steps(place.folder) == [0, 1, 2, 6, 7, 8]
    assert metrics(place) == {step: {"train_loss": float(step)} for step in range(9)}, "lines wait for the next write"
    assert len(recorder.errors) == 3 and "step 3 is not written" in recorder.errors[0]
    assert len(caplog.records) == 1


READ_ONLY = """
import os, sys, time
from helpers.recorded import Loop
from specdyn.tasks.recording.recorder import Recorder
folder, loop = sys.argv[1] + "/recorded/run", Loop()
with Recorder(sys.argv[1], "run", every=5) as recorder:
    loop.run(7, lambda step, model, loss: recorder.step(step, model))
    while not os.path.exists(folder + "/step=00000005.safetensors"):
        time.sleep(0.01)
    os.chmod(folder, 0o555)
    if os.geteuid() == 0:  # who may write everywhere
        os.seteuid(65534)
    loop.run(20, lambda step, model, loss: recorder.step(step, model))
os.seteuid(os.getuid())
os.chmod(folder, 0o755)
print(loop.step, sorted(os.listdir(folder)), recorder.errors)
"""


def test_a_folder_that_becomes_read_only_never_raises_into_training() -> None:
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        done = subprocess.run(
            [sys.executable, "-c", READ_ONLY, f"{folder}/store"],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
            capture_output=True,
            text=True,
            check=True,
        )
    assert done.stdout.startswith("20 [") and "access denied" in done.stdout, done.stdout + done.stderr
    assert "step=00000005" in done.stdout and "step=00000010.safetensors'," not in done.stdout


def test_a_folder_that_is_taken_away_never_raises_into_training(place: Recording) -> None:
    loop = Loop()
    with Recorder(str(place.store), "run", every=5) as recorder:
        loop.run(7, lambda step, model, loss: recorder.step(step, model))
        while not Path(place.checkpoint(5)).exists():
            time.sleep(0.01)
        objects.delete(place.store.url)
        Path(place.store.url).write_text("no folder any more")
        loop.run(20, lambda step, model, loss: recorder.step(step, model))
    assert loop.step == 20 and "a part of this path is a file" in recorder.errors[0]


def test_it_is_imported_when_it_is_asked_for() -> None:
    assert specdyn.Recorder is Recorder and "Recorder" in dir(specdyn)
