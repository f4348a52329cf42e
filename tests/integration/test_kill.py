"""What dies is noticed, what is stopped ends whole; the same command then ends with the undisturbed bits."""

import contextlib
import os
import re
import signal
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import httpx
import pytest

from helpers.long_preset import long_preset
from helpers.pipelines import NAME, ROOT, call, command, files, sweep, weights_files
from helpers.servers import S3Server
from helpers.topology import command_line
from specdyn.flows.engine.watchdog import marked
from specdyn.models.experiments.modular_addition import PRESETS
from specdyn.storage.leftovers import remove_leftovers
from specdyn.storage.places import Store
from specdyn.storage.query import open_results

pytestmark = pytest.mark.integration

ARGUMENTS = ("run", NAME, "--preset", "long", "--weight-decays", "1", "--no-report", "--store")
STOP_SECONDS = 5.0
DEAD_PROXY = "http://127.0.0.1:9"
KEPT = "what is finished is kept"
AGAIN = "starting again from there; its log is "
ON = "the same command goes on from there"
PARTS = {"raylet": "/raylet/raylet ", "GCS": "/gcs/gcs_server ", "Prefect": "prefect.server.api.server:create_app"}
"""Words of the command line of each part."""


@pytest.fixture(scope="module")
def environment_of_users(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What users have around them: proxies without exceptions, a TMPDIR as SLURM makes them, nothing else."""
    folder = tmp_path_factory.mktemp("user")
    temporary = folder / ("t" * (77 - len(str(folder))) or "t")
    for new in (temporary, folder / "prefect"):
        new.mkdir()
    proxies = dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"), DEAD_PROXY)
    own = {"PREFECT_HOME": str(folder / "prefect"), "XDG_CACHE_HOME": str(folder / "cache")}
    return {**proxies, "TMPDIR": str(temporary), **own}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, prefect_server: None) -> dict[str, bytes]:
    """What the sweep leaves when nobody kills anything, by the process of the tests alone."""
    store = tmp_path_factory.mktemp("undisturbed") / "store"
    sweep_here(store)
    return products(store)


def sweep_here(store: Path) -> None:
    """The sweep in the process of the tests, which saves the start of a command and its server."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(PRESETS, "long", long_preset())
        sweep(str(store), preset="long", weight_decays=[1.0], executor="inline")


def products(store: Path) -> dict[str, bytes]:
    """Checkpoints, the names of all results, and every array of the cube: what must be equal."""
    remove_leftovers(Store(str(store)), older_than=0.0)
    kept = files(store)
    weights = {path: data for path, data in kept.items() if path.startswith("checkpoints/") and "/state/" not in path}
    results = {path: b"" for path in kept if path.startswith("results/")}
    (cube,) = store.glob("studies/*/results.zarr")
    arrays = {
        f"{group}/{name}": array.values.tobytes() if array.dtype.kind in "if" else str(array.values.tolist()).encode()
        for group, of in open_results(str(cube)).children.items()
        for name, array in of.to_dataset().variables.items()
    }
    return {**weights, **results, **arrays}


def differing(store: Path, undisturbed: dict[str, bytes]) -> list[str]:
    """The paths of what is missing, too much or not of the same bytes."""
    there = products(store)
    return sorted(path for path in there.keys() | undisturbed.keys() if there.get(path) != undisturbed.get(path))


class Program:
    """The sweep as a process of its own, and everything that it starts, known by a variable of the environment."""

    def __init__(self, folder: Path, store: str, env: Mapping[str, str], *options: str) -> None:
        self.store, self._out = store, folder / "out"
        name, value = "SPECDYN_TESTED", uuid.uuid4().hex
        self._mark = f"{name}={value}"
        with self._out.open("wb") as out:
            arguments = command(*ARGUMENTS, store, *options, driver=True)
            environment = {**os.environ, **env, name: value}
            self.process = subprocess.Popen(arguments, cwd=ROOT, env=environment, stdout=out, stderr=out)

    def said(self) -> str:
        """All that it has printed."""
        return self._out.read_text()

    def lines(self) -> list[str]:
        """What it has printed of ends and beginnings."""
        return [line for line in self.said().splitlines() if KEPT in line or "C++" in line or "state-dump" in line]

    def wait_for(self, condition: Callable[[], bool], pause: float = 0.02) -> None:
        """Wait until the condition holds, while the process lives; with a pause between looks that cost something."""
        until = time.monotonic() + 180
        while not condition():
            assert self.process.poll() is None, self.said()
            assert time.monotonic() < until, self.said()
            time.sleep(pause)

    def running(self, words: str) -> list[int]:
        """Its processes whose command line has the words."""
        return [pid for pid in marked(self._mark) if words in command_line(pid)]

    def folder(self) -> Path:
        """The folder of its sockets, logs and database."""
        (raylet,) = self.running(PARTS["raylet"])
        found = re.search(r"--raylet_socket_name=(\S+)/r/session_", command_line(raylet))
        assert found
        return Path(found[1])

    def lose(self, part: str) -> None:
        """Kill a part while a run is in training, and wait until there is another one and the training goes on."""
        (lost,) = self.running(PARTS[part])
        os.kill(lost, signal.SIGKILL)
        self.wait_for(lambda: self.running(PARTS[part]) not in ([], [lost]), pause=0.5)
        before = checkpoints(self.store)
        self.wait_for(lambda: checkpoints(self.store) >= before + 1)

    def end(self, number: signal.Signals) -> int:
        """Signal the command alone; returns its code once nothing of it is left, which takes seconds."""
        until = time.monotonic() + STOP_SECONDS
        self.process.send_signal(number)
        code = self.process.wait(STOP_SECONDS)
        while left := [command_line(pid) for pid in marked(self._mark)]:
            assert time.monotonic() < until, left
            time.sleep(0.1)
        return code

    def clean(self) -> None:
        """End whatever is left, and remove the logs that it named."""
        self.process.kill()
        self.process.wait()
        for pid in marked(self._mark):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        for line in self.lines():
            if AGAIN in line:
                Path(line.split(AGAIN)[1]).unlink()


@pytest.fixture
def program(tmp_path: Path, environment_of_users: dict[str, str]) -> Iterator[Callable[..., Program]]:
    """Starts the sweep; nothing of it is left afterwards."""
    with contextlib.ExitStack() as stack:

        def start(store: str = str(tmp_path / "store"), *options: str, **variables: str) -> Program:
            made = Program(tmp_path, store, {**environment_of_users, **variables}, *options)
            stack.callback(made.clean)
            return made

        yield start


def checkpoints(store: str) -> int:
    """How many checkpoints lie in the store."""
    return len(weights_files(Path(store)))


def lost(title: str, part: str) -> str:
    """How the command begins to tell of a part that it starts again."""
    return f"{title}: {part} has died: {KEPT}, {AGAIN}"


def test_killed_worker_killed_raylet_and_killed_program_lose_nothing(
    undisturbed: dict[str, bytes], program: Callable[..., Program]
) -> None:
    started = program()
    store = Path(started.store)
    total = sum(path.endswith(".safetensors") for path in undisturbed)
    started.wait_for(lambda: checkpoints(started.store) >= 3)
    folders = [started.folder()]
    workers = started.running("ray::run_unit")
    assert workers
    os.kill(workers[0], signal.SIGKILL)
    before = checkpoints(started.store)
    assert before < total - 4
    started.wait_for(lambda: checkpoints(started.store) >= before + 2)
    started.lose("raylet")
    folders.append(started.folder())
    assert [folder.stat().st_mode & 0o077 for folder in folders[1:]] == [0], "others of this machine have no way in"
    assert started.end(signal.SIGKILL) == -signal.SIGKILL
    assert len(set(folders)) == 2 and not [folder for folder in folders if folder.exists()]
    assert not list((store / "runs").rglob("*.json")), "the program was to be killed in training"
    (line,) = started.lines()
    assert line.startswith(lost(f"{NAME}-long", "Ray's raylet")), "one sentence, and no C++ state"
    sweep_here(store)
    assert differing(store, undisturbed) == []


def test_lost_gcs_lost_prefect_and_ctrl_c_between_blocks_lose_nothing_and_nothing_is_repeated(
    undisturbed: dict[str, bytes], program: Callable[..., Program], environment_of_users: dict[str, str]
) -> None:
    started = program()
    store = Path(started.store)

    def measured() -> list[Path]:
        return list((store / "results").rglob("*.safetensors"))

    started.wait_for(lambda: checkpoints(started.store) >= 2)
    started.lose("GCS")
    started.lose("Prefect")
    assert not list((store / "runs").rglob("*.json")), "both were to be lost in training"
    started.wait_for(lambda: bool(measured()))
    assert started.end(signal.SIGINT) == 128 + signal.SIGINT
    gcs, prefect, stopped = started.lines()
    assert gcs.startswith(lost(f"{NAME}-long", "Ray's GCS"))
    assert prefect.startswith(lost(f"{NAME}-long", "Prefect's temporary server"))
    assert started.said().endswith(f"{stopped}\n")
    assert stopped == f"{NAME}-long was stopped by Ctrl-C: {KEPT}, {ON}"
    there = {path: path.stat().st_mtime_ns for path in measured()}
    result = call(*ARGUMENTS, str(store), driver=True, env=environment_of_users)
    assert result.returncode == 0, result.stderr
    assert {path: path.stat().st_mtime_ns for path in there} == there
    assert differing(store, undisturbed) == []


def test_sigterm_ends_inline_work_on_object_storage_and_tells_the_prefect_server_of_the_user(
    s3_server: S3Server, s3_store: Store, prefect_server: None, program: Callable[..., Program]
) -> None:
    from prefect.settings import PREFECT_API_URL

    url = str(PREFECT_API_URL.value())
    started = program(s3_store.url, "--executor", "inline", PREFECT_API_URL=url)
    own = f"PUT /{s3_store.url.removeprefix('s3://')}/checkpoints/"
    started.wait_for(lambda: any(put.startswith(own) and "step=" in put for put in s3_server.requests()))
    assert started.end(signal.SIGTERM) == 128 + signal.SIGTERM
    assert started.lines() == [f"{NAME}-long was stopped by SIGTERM: {KEPT}, {ON}"]
    runs = httpx.post(f"{url}/flow_runs/filter", json={"flow_runs": {"name": {"any_": [f"{NAME} long"]}}}).json()
    states = [run["state"]["name"] for run in runs if run["parameters"]["store"] == s3_store.url]
    assert states == ["Cancelled"]


def test_runs_leave_one_small_file_in_the_cache_and_none_with_prefect_and_temporary_files(
    undisturbed: dict[str, bytes], environment_of_users: dict[str, str]
) -> None:
    kept = files(Path(environment_of_users["XDG_CACHE_HOME"], "specdyn"))
    assert [path.rsplit("-", 1)[0] for path in kept] == ["prefect"], "an empty database, to begin with"
    assert sum(map(len, kept.values())) < 2e6
    assert [files(environment_of_users[name]) for name in ("PREFECT_HOME", "TMPDIR")] == [{}, {}]
