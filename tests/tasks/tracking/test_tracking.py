"""Runs in trackers: what was sent is read back by the trackers' own readers, and equals the cube."""

import io
import json
import signal
import struct
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
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
from specdyn.storage.generations import SEAL
from specdyn.storage.places import Store
from specdyn.storage.probe import require_store
from specdyn.storage.query import open_results
from specdyn.tasks.plan.gathering import gather
from specdyn.tasks.tracking import sender as sending
from specdyn.tasks.tracking import trackers
from specdyn.tasks.tracking.records import read_sent, sent_record
from specdyn.tasks.tracking.sender import Sender
from specdyn.tasks.tracking.tracked import Tracked, measured_of, tracked

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


@pytest.fixture
def no_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Send numbers alone: figures take seconds, and are looked at elsewhere."""
    monkeypatch.setattr(Tracked, "figures", {})


def send(tracker: str, store: Store, said: list[str] | None = None, study: str = "decay") -> Sender:
    """Send all that is measured and was not sent."""
    said = [] if said is None else said
    with Sender(tracker, store, NAME, study, said.append) as sender:
        pass
    return sender


def grow(store: Store, study: str, until: int) -> None:
    """Write the cube of a study as it is when checkpoints up to a step are measured."""
    tree = open_results(store.cube("decay")).load()
    del tree.attrs[SEAL]  # which says that no chunk is left out
    for group in ("layers", "metrics"):
        data = tree[group].to_dataset()
        by_step = [name for name, of in data.data_vars.items() if "step" in of.dims]
        tree[group] = data.assign({name: data[name].where(data["step"] <= until) for name in by_step})
    if until < 20:
        relabel(tree, status="partial", contents=f"until {until}")
    tree.to_zarr(store.cube(study), mode="w", zarr_format=3)


def relabel(tree: xr.DataTree, **texts: str) -> None:
    """Have these be said of every run of a cube."""
    runs = tree["runs"].to_dataset()
    for name, text in texts.items():
        runs[name] = "run", np.array([text] * runs.sizes["run"], np.dtypes.StringDType()), runs[name].attrs
    tree["runs"] = runs


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
    first, second = measured_of(tree)
    run = tracked(tree, second, "decay")
    check_scalars({name: dict(of) for name, of in run.scalars.items()}, values(finished, second))
    assert run.settings["weight_decay"] == 1.0 and run.settings["optimizer"] == "adamw"
    assert set(run.figures) == {"performance", "effective_rank"}
    assert all(Image.open(io.BytesIO(png)).size[0] > 300 for png in run.figures.values())
    assert run.scalars != tracked(tree, first, "decay").scalars
    assert all(one.done for one in measured_of(tree).values())


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
        record = read_sent(sent_record(finished, "tensorboard", "decay", NAME, run))
        assert record is not None and record.where == f"{finished}/tensorboard/decay/{run}"
    assert send("tensorboard", finished).sent == [], "nothing is new"
    objects.write(sent_record(finished, "tensorboard", "decay", NAME, runs[0]), b'{"contents": "others"}')
    assert send("tensorboard", finished).sent == [runs[0]], "its values are others now"
    assert len(list(Path(f"{finished}/tensorboard/decay/{runs[0]}").iterdir())) == 1, "the ones before are replaced"


def test_files_of_runs_on_object_storage_are_written_here(
    finished: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    tree = open_results(finished.cube("decay"))
    run = tracked(tree, SWEEP.specs[0].run_id, "decay")
    stream = trackers.ToTensorBoard(run, "s3://bucket/prefix", anew=False, recorded={})
    stream.close(finished=False)
    assert (where := stream.where) == str(tmp_path / "tensorboard" / "decay" / run.run_id) and list(
        Path(where).iterdir()
    )


def counts(folder: str) -> dict[str, list[int]]:
    """How often TensorBoard has each number of a run, by name, at steps 0, 10 and 20."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(folder, size_guidance={"scalars": 0, "images": 0}).Reload()
    tags = events.Tags()
    assert all(len(events.Images(name)) == 1 for name in tags["images"])
    assert all(len(events.Tensors(name)) == 1 for name in tags["tensors"])
    by_step = {name: [one.step for one in events.Scalars(name)] for name in tags["scalars"]}
    return {name: [steps.count(s) for s in (0, 10, 20)] for name, steps in by_step.items() if name[:4] != "run/"}


def test_numbers_are_sent_once_and_as_they_are_measured(finished: Store, records: None, no_figures: None) -> None:
    runs = [spec.run_id for spec in SWEEP.specs]
    for until, there in ((0, [1, 0, 0]), (10, [1, 1, 0])):
        grow(finished, "growing", until)
        for _ in range(2):
            assert send("tensorboard", finished, study="growing").sent == []
            found = counts(f"{finished}/tensorboard/growing/{runs[0]}")
            assert found.keys() == values(finished, runs[0]).keys()
            assert all(of == there for of in found.values())
    grow(finished, "growing", 20)
    assert sorted(send("tensorboard", finished, study="growing").sent) == sorted(runs)
    for run in runs:
        assert all(of == [1, 1, 1] for of in counts(f"{finished}/tensorboard/growing/{run}").values())


KILLED = """
import os, signal, sys
from specdyn.storage.places import Store
from specdyn.tasks.tracking import sender, trackers

def add(self, scalars):
    for name, of in list(scalars.items())[::2]:  # half of the numbers, and it dies
        whole(self, {name: of})
    os.kill(os.getpid(), signal.SIGKILL)

whole, trackers.ToTensorBoard.add = trackers.ToTensorBoard.add, add
with sender.Sender("tensorboard", Store(sys.argv[1]), "modular_addition", "killed", print):
    pass
"""


def test_nothing_is_sent_twice_after_a_kill(finished: Store, records: None, no_figures: None) -> None:
    runs = [spec.run_id for spec in SWEEP.specs]
    grow(finished, "killed", 10)
    ended = subprocess.run([sys.executable, "-c", KILLED, finished.url], check=False, timeout=120)
    assert ended.returncode == -signal.SIGKILL
    (folder,) = Path(f"{finished}/tensorboard/killed").iterdir()
    (file,) = folder.iterdir()
    file.write_bytes(file.read_bytes()[:-5])  # the last record is torn
    grow(finished, "killed", 20)
    said: list[str] = []
    assert sorted(send("tensorboard", finished, said, study="killed").sent) == sorted(runs) and said == []
    for run in runs:
        found = counts(f"{finished}/tensorboard/killed/{run}")
        assert found.keys() == values(finished, run).keys() and all(of == [1, 1, 1] for of in found.values())


class Told(trackers.Stream):
    """A tracker that keeps what it is told."""

    def __init__(self, run: Tracked, store: str, anew: bool, recorded: Mapping[str, frozenset[int]]) -> None:
        self.where, self.sent = f"there/{run.run_id}", {} if anew else dict(recorded)
        self.told: list[tuple[str, int]] = []
        OPENED.append((run.run_id, anew, self))

    def add(self, scalars: Mapping[str, Mapping[int, float]]) -> None:
        self.told += [(name, step) for name, values in scalars.items() for step in values]

    def end(self, facts: Mapping[str, float], figures: Mapping[str, bytes]) -> None:
        self.told += [("end", 0)]

    def close(self, finished: bool) -> None:
        self.told += [("close", int(finished))]


OPENED: list[tuple[str, bool, Told]] = []


def trying(monkeypatch: pytest.MonkeyPatch, opening: Callable[..., trackers.Stream]) -> None:
    """Have runs be opened in another way."""
    OPENED.clear()
    tracker = trackers.Tracker(package="tensorboard", extra="tensorboard", open=opening)
    monkeypatch.setitem(trackers.TRACKERS, "tensorboard", tracker)


def test_runs_are_sent_while_the_call_goes_on(finished: Store, records: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sending, "EVERY_SECONDS", 0.05)
    opened = threading.Event()
    trying(monkeypatch, lambda *asked: (opened.set(), Told(*asked))[1])
    with Sender("tensorboard", finished, NAME, "decay", print):
        assert opened.wait(60)


def test_a_tracker_that_cannot_be_asked_gets_what_the_store_has_no_record_of(
    finished: Store, records: None, no_figures: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    trying(monkeypatch, Told)
    grow(finished, "recorded", 10)
    send("tensorboard", finished, study="recorded")
    grow(finished, "recorded", 20)
    send("tensorboard", finished, study="recorded")
    run = SWEEP.specs[0].run_id
    first, second = (told for of, _, told in OPENED if of == run)
    assert {step for name, step in first.told[:-1]} == {0, 10} and first.told[-1] == ("close", 0)
    assert {step for name, step in second.told[:-2]} == {20} and second.told[-2:] == [("end", 0), ("close", 1)]
    tree = open_results(finished.cube("recorded")).load()
    relabel(tree, contents="others")
    tree.to_zarr(finished.cube("recorded"), mode="w", zarr_format=3)
    send("tensorboard", finished, study="recorded")
    assert [anew for of, anew, _ in OPENED if of == run] == [False, False, True], "its values are others now"


def test_a_tracker_that_fails_is_said_once_and_the_next_call_sends_the_rest(
    finished: Store, records: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, calls = trackers.TRACKERS["tensorboard"], []

    def broken(run: Tracked, *asked: Any) -> trackers.Stream:
        calls.append(run.run_id)
        if len(calls) > 1:
            raise RuntimeError("no\nnetwork")
        return real.open(run, *asked)

    trying(monkeypatch, broken)
    said: list[str] = []
    assert len(send("tensorboard", finished, said).sent) == 1
    assert said == [
        "warning: tensorboard takes no more runs of this call (RuntimeError: no network); the next call sends the rest"
    ]
    trying(monkeypatch, real.open)
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
    for until in (0, 10):
        grow(finished, "by_mlflow", until)
        assert send("mlflow", finished, said, "by_mlflow").sent == []
    grow(finished, "by_mlflow", 20)
    sender = send("mlflow", finished, said, "by_mlflow")
    assert said == [] and len(sender.sent) == 2
    client = mlflow.MlflowClient()
    experiment = client.get_experiment_by_name("by_mlflow").experiment_id
    for run in sender.sent:
        (there,) = client.search_runs([experiment], f"tags.`specdyn.run_id` = '{run}'")
        names = [name for name in there.data.metrics if not name.startswith("run/")]
        history = {
            name: {one.step: one.value for one in client.get_metric_history(there.info.run_id, name)} for name in names
        }
        assert all(len(client.get_metric_history(there.info.run_id, name)) == 3 for name in names)
        check_scalars(history, values(finished, run))
        assert there.data.params["optimizer"] == "adamw" and there.info.status == "FINISHED"
        figures = {one.path for one in client.list_artifacts(there.info.run_id, "figures")}
        assert figures == {"figures/performance.png", "figures/effective_rank.png"}
    objects.write(sent_record(finished, "mlflow", "by_mlflow", NAME, sender.sent[0]), b'{"contents": "others"}')
    assert send("mlflow", finished, study="by_mlflow").sent == [sender.sent[0]]
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
    grow(finished, "by_wandb", 10)
    assert send("wandb", finished, said, "by_wandb").sent == []
    grow(finished, "by_wandb", 20)
    sender = send("wandb", finished, said, "by_wandb")
    assert said == [] and len(sender.sent) == 2
    for run in sender.sent:
        files = sorted(tmp_path.glob(f"wandb/offline-run-*-{run}/run-{run}.wandb"))
        assert len(files) == 2, "one of each call"
        found, config = dict[str, dict[int, float]](), {}
        for data in (data for file in files for data in log_records(file.read_bytes())):
            record = wandb_internal_pb2.Record()
            record.ParseFromString(data)
            if record.HasField("run"):
                config |= {one.key: json.loads(one.value_json) for one in record.run.config.update}
            row = {"/".join(one.nested_key) or one.key: json.loads(one.value_json) for one in record.history.item}
            for name, value in row.items():
                if name.startswith(("train/", "val/", "layers/")):
                    assert row["step"] not in found.setdefault(name, {})
                    found[name][row["step"]] = value
        check_scalars(found, values(finished, run))
        assert config["specdyn.run_id"] == run and config["optimizer"] == "adamw"
        assert len(list(files[-1].parent.glob("files/media/images/figures/*.png"))) == 2


def test_figures_are_drawn_in_several_threads_at_once(finished: Store) -> None:
    from concurrent.futures import ThreadPoolExecutor

    tree: xr.DataTree = open_results(finished.cube("decay")).load()
    (run, *_) = measured_of(tree)
    with ThreadPoolExecutor(4) as pool:
        drawn = list(pool.map(lambda _: tracked(tree, run, "decay").figures, range(4)))
    assert all(one == drawn[0] for one in drawn)
