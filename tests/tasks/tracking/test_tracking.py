"""Runs in trackers: what was sent is read back by the trackers' own readers, and equals the cube."""

import io
import json
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from PIL import Image
from typer.testing import CliRunner

from helpers.analysed import analyse, sweep_called
from specdyn.flows.cli.app import app
from specdyn.storage.access import objects
from specdyn.storage.places import Store
from specdyn.storage.probe import require_store
from specdyn.storage.query import open_results
from specdyn.tasks.plan.gathering import gather
from specdyn.tasks.tracking import sender as sending
from specdyn.tasks.tracking import trackers
from specdyn.tasks.tracking.sender import Sender, sent_record
from specdyn.tasks.tracking.tracked import finished_runs, tracked

NAME = "modular_addition"
SWEEP = sweep_called("decay", 0.0, 1.0, analyses=("effective_rank", "norms", "performance"))


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """Two runs that are trained, analysed and gathered."""
    store = require_store(str(tmp_path_factory.mktemp("tracked") / "store"))
    analyse(SWEEP, store.url)
    gather(SWEEP, store, report=False)
    return store


@pytest.fixture
def records(finished: Store) -> None:
    """No run was sent before."""
    for spec in SWEEP.specs:
        objects.delete(finished.logs(NAME, spec.run_id))


def send(tracker: str, store: Store, said: list[str] | None = None) -> Sender:
    """Send all that is done and was not sent."""
    said = [] if said is None else said
    with Sender(tracker, store, NAME, "decay", said.append) as sender:
        pass
    return sender


def values(store: Store, run: str) -> dict[str, dict[int, float]]:
    """What is expected by step, taken from the cube in another way."""
    tree = open_results(store.cube("decay"))
    found = {}
    for metric in ("loss", "err"):
        of = tree["metrics"][metric].sel(run=run)
        found |= {
            f"{s}/{metric}": dict(zip([0, 10, 20], of.sel(split=s).values, strict=True)) for s in ("train", "val")
        }
    for name in ("effective_rank", "spectral_norm", "frobenius_norm"):
        of = tree["layers"][name].sel(run=run)
        found[f"layers/{name}"] = {step: float(np.mean(of.sel(step=step).values)) for step in (0, 10, 20)}
    return found


def check_scalars(found: dict[str, dict[int, float]], expected: dict[str, dict[int, float]]) -> None:
    assert found.keys() == expected.keys()
    for name, by_step in expected.items():
        assert found[name] == pytest.approx(by_step, rel=1e-6), name


def test_a_run_has_its_settings_scalars_and_figures(finished: Store) -> None:
    tree = open_results(finished.cube("decay"))
    first, second = finished_runs(tree)
    run = tracked(tree, second, "decay")
    check_scalars({name: dict(of) for name, of in run.scalars.items()}, values(finished, second))
    assert run.settings["weight_decay"] == 1.0 and run.settings["optimizer"] == "adamw"
    assert set(run.figures) == {"performance", "effective_rank"}
    assert all(Image.open(io.BytesIO(png)).size[0] > 300 for png in run.figures.values())
    assert run.scalars != tracked(tree, first, "decay").scalars
    unfinished = tree.copy()
    unfinished["runs"] = unfinished["runs"].to_dataset().assign_coords(status=("run", ["partial", "done"]))
    assert list(finished_runs(unfinished)) == [second]


def test_tensorboard_reads_what_was_sent(finished: Store, records: None) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    runs = [spec.run_id for spec in SWEEP.specs]
    assert sorted(send("tensorboard", finished).sent) == sorted(runs)
    for run in runs:
        events = EventAccumulator(f"{finished}/tensorboard/decay/{run}").Reload()
        found = {
            tag: {event.step: event.value for event in events.Scalars(tag)}
            for tag in events.Tags()["scalars"]
            if not tag.startswith("run/")
        }
        check_scalars(found, values(finished, run))
        assert set(events.Tags()["images"]) == {"performance", "effective_rank"}
        (text,) = events.Tensors("settings/text_summary")
        assert f"specdyn.run_id: {run}" in text.tensor_proto.string_val[0].decode()
        record = json.loads(objects.read(sent_record(finished, "tensorboard", "decay", NAME, run)))
        assert record["where"] == f"{finished}/tensorboard/decay/{run}"
    assert send("tensorboard", finished).sent == [], "nothing is new"
    objects.write(sent_record(finished, "tensorboard", "decay", NAME, runs[0]), b'{"contents": "others"}')
    assert send("tensorboard", finished).sent == [runs[0]], "its values are others now"
    assert len(list(Path(f"{finished}/tensorboard/decay/{runs[0]}").iterdir())) == 1, "the ones before are replaced"


def test_runs_are_sent_while_the_call_goes_on(finished: Store, records: None, monkeypatch: pytest.MonkeyPatch) -> None:
    import threading

    monkeypatch.setattr(sending, "EVERY_SECONDS", 0.05)
    sent = threading.Event()
    tracker = trackers.Tracker(package="json", extra="", send=lambda run, store: (sent.set(), "there")[1])
    monkeypatch.setitem(trackers.TRACKERS, "tensorboard", tracker)
    with Sender("tensorboard", finished, NAME, "decay", print):
        assert sent.wait(60)


def test_a_tracker_that_fails_is_said_once_and_the_next_call_sends_the_rest(
    finished: Store, records: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, calls = trackers.TRACKERS["tensorboard"], []

    def broken(run: Any, store: str) -> str:
        calls.append(run.run_id)
        if len(calls) > 1:
            raise RuntimeError("no\nnetwork")
        return real.send(run, store)

    def trying(send: Callable[[Any, str], str]) -> None:
        tracker = trackers.Tracker(package="tensorboard", extra="tensorboard", send=send)
        monkeypatch.setitem(trackers.TRACKERS, "tensorboard", tracker)

    trying(broken)
    said: list[str] = []
    assert len(send("tensorboard", finished, said).sent) == 1
    assert said == [
        "warning: tensorboard takes no more runs of this call (RuntimeError: no network); the next call sends the rest"
    ]
    trying(real.send)
    assert send("tensorboard", finished).sent == calls[1:]


def test_a_tracker_that_is_unknown_or_missing_is_refused(finished: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match=r"unknown log 'tensorbord'.*did you mean 'tensorboard'"):
        trackers.get_tracker("tensorbord")
    monkeypatch.setattr(trackers.importlib.util, "find_spec", lambda _: None)
    for name in trackers.TRACKERS:
        with pytest.raises(ValueError, match=rf"log='{name}' needs {name}: pip install 'specdyn\[{name}\]'"):
            trackers.get_tracker(name)


def test_the_command_sends_what_was_not_sent_though_nothing_is_left_to_train(finished: Store, records: None) -> None:
    grid = ["-p", "smoke", "-w", "0,1", "-s", "0", "--set", "steps=20", "--set", "checkpoint_every=10", "-n", "decay"]
    asked = ["run", NAME, *grid, "--analyses", ",".join(SWEEP.analyses), "--no-report", "--store", finished.url]
    done = CliRunner().invoke(app, [*asked, "--log", "tensorboard"], env={"COLUMNS": "300"})
    assert done.exit_code == 0, done.output
    assert "2 runs already done" in done.output and "2 runs sent to tensorboard" in done.output
    refused = CliRunner().invoke(app, [*asked, "--log", "nothing"])
    assert refused.exit_code == 2 and "known are mlflow, tensorboard, wandb" in " ".join(refused.output.split())


def test_nothing_is_sent_of_a_study_without_results(local_store: Store) -> None:
    require_store(local_store.url)
    said: list[str] = []
    assert send("tensorboard", local_store, said).sent == [] and said == []


def test_mlflow_reads_what_was_sent(
    finished: Store, records: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mlflow = pytest.importorskip("mlflow", reason="needs mlflow: pip install 'specdyn[mlflow]'")
    mlflow.set_tracking_uri(f"file://{tmp_path}")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    said: list[str] = []
    sender = send("mlflow", finished, said)
    assert said == [] and len(sender.sent) == 2
    client = mlflow.MlflowClient()
    experiment = client.get_experiment_by_name("decay").experiment_id
    for run in sender.sent:
        (there,) = client.search_runs([experiment], f"tags.`specdyn.run_id` = '{run}'")
        names = [name for name in there.data.metrics if not name.startswith("run/")]
        history = {
            name: {one.step: one.value for one in client.get_metric_history(there.info.run_id, name)} for name in names
        }
        check_scalars(history, values(finished, run))
        assert there.data.params["optimizer"] == "adamw" and there.info.status == "FINISHED"
        figures = {one.path for one in client.list_artifacts(there.info.run_id, "figures")}
        assert figures == {"figures/performance.png", "figures/effective_rank.png"}
    objects.delete(sent_record(finished, "mlflow", "decay", NAME, sender.sent[0]))
    assert send("mlflow", finished).sent == [sender.sent[0]]
    assert len(client.search_runs([experiment])) == 2, "the run before is replaced"


def log_records(data: bytes) -> Iterator[bytes]:
    """The records of a file in LevelDB's log format, after wandb's 7 bytes; blocks have 32 KiB, headers 7 bytes."""
    place, parts = 7, b""
    while place + 7 <= len(data):
        if (left := -place % 32768) < 7 and left:
            place += left
            continue
        size, kind = struct.unpack_from("<HB", data, place + 4)
        parts += data[place + 7 : place + 7 + size]
        place += 7 + size
        if kind in (1, 4):  # whole, or the last part
            yield parts
            parts = b""


def test_wandb_writes_what_was_sent(
    finished: Store, records: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("wandb", reason="needs wandb: pip install 'specdyn[wandb]'")
    from wandb.proto import wandb_internal_pb2

    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_DIR", str(tmp_path))
    said: list[str] = []
    sender = send("wandb", finished, said)
    assert said == [] and len(sender.sent) == 2
    for run in sender.sent:
        (file,) = tmp_path.glob(f"wandb/offline-run-*-{run}/run-{run}.wandb")
        found, config = dict[str, dict[int, float]](), {}
        for data in log_records(file.read_bytes()):
            record = wandb_internal_pb2.Record()
            record.ParseFromString(data)
            if record.HasField("run"):
                config |= {one.key: json.loads(one.value_json) for one in record.run.config.update}
            row = {"/".join(one.nested_key) or one.key: json.loads(one.value_json) for one in record.history.item}
            for name, value in row.items():
                if name.startswith(("train/", "val/", "layers/")):
                    found.setdefault(name, {})[row["step"]] = value
        check_scalars(found, values(finished, run))
        assert config["specdyn.run_id"] == run and config["optimizer"] == "adamw"
        assert len(list(file.parent.glob("files/media/images/figures/*.png"))) == 2


def test_figures_are_drawn_in_several_threads_at_once(finished: Store) -> None:
    from concurrent.futures import ThreadPoolExecutor

    tree: xr.DataTree = open_results(finished.cube("decay")).load()
    (run, *_) = finished_runs(tree)
    with ThreadPoolExecutor(4) as pool:
        drawn = list(pool.map(lambda _: tracked(tree, run, "decay").figures, range(4)))
    assert all(one == drawn[0] for one in drawn)
