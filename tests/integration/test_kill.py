"""What dies is noticed, what is stopped ends whole; the same command then ends with the undisturbed bits."""

import contextlib
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from typer.testing import CliRunner

from helpers.long_preset import long_preset
from helpers.pipelines import NAME, call, files, sweep, weights_files
from helpers.products import differing, products
from helpers.programs import AGAIN, KEPT, PARTS, WORKER, Program
from helpers.servers import S3Server
from specdyn.flows.cli.app import app
from specdyn.models.experiments.modular_addition import PRESETS
from specdyn.storage.places import Store

pytestmark = [pytest.mark.integration, pytest.mark.scenario]

ARGUMENTS = ("run", NAME, "--preset", "long", "--weight-decays", "1", "--no-report", "--store")
DEAD_PROXY = "http://127.0.0.1:9"
ON = "the same command continues from there"


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
    return products(str(store))


def sweep_here(store: Path) -> None:
    """The sweep in the process of the tests, which saves the start of a command and its server."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(PRESETS, "long", long_preset())
        sweep(str(store), preset="long", weight_decays=[1.0], executor="inline")


def lose(started: Program, store: Path, part: str) -> None:
    """Kill a part while a run is in training, and wait until there is another one and the training goes on."""
    (lost,) = started.running(PARTS[part])
    os.kill(lost, signal.SIGKILL)
    started.wait_for(lambda: started.running(PARTS[part]) not in ([], [lost]), pause=0.5)
    before = checkpoints(store)
    started.wait_for(lambda: checkpoints(store) >= before + 1)


@pytest.fixture
def program(tmp_path: Path, environment_of_users: dict[str, str]) -> Iterator[Callable[..., Program]]:
    """Starts the sweep; nothing of it is left afterwards."""
    with contextlib.ExitStack() as stack:

        def start(store: str, *options: str, **variables: str) -> Program:
            given = (*ARGUMENTS, store, *options)
            made = Program(tmp_path, given, {**environment_of_users, **variables}, driver=True)
            stack.callback(made.clean)
            return made

        yield start


def checkpoints(store: Path) -> int:
    """How many checkpoints lie in the store."""
    return len(weights_files(store))


def status(store: Path) -> str:
    """What is said of the sweep, on one line without the rules of tables."""
    result = CliRunner().invoke(app, ["status", f"{NAME}-long", "--store", str(store)], env={"COLUMNS": "300"})
    assert result.exit_code == 0, result.output
    return " ".join(result.output.replace("─", "").split())


def lost(title: str, part: str) -> str:
    """How the command begins to tell of a part that it starts again."""
    return f"{title}: {part} has died: {KEPT}, {AGAIN}"


def test_killed_worker_killed_raylet_and_killed_program_lose_nothing(
    undisturbed: dict[str, bytes], program: Callable[..., Program], tmp_path: Path
) -> None:
    store = tmp_path / "store"
    started = program(str(store))
    total = sum(path.endswith(".safetensors") for path in undisturbed)
    started.wait_for(lambda: checkpoints(store) >= 3)
    folders = [started.folder()]
    workers = started.running(WORKER)
    assert workers
    os.kill(workers[0], signal.SIGKILL)
    before = checkpoints(store)
    assert before < total - 4
    started.wait_for(lambda: checkpoints(store) >= before + 2)
    lose(started, store, "raylet")
    folders.append(started.folder())
    working = status(store)
    assert f"At work who since last sign of life how far process {started.process.pid} on " in working
    assert "In training" in working and " under way." in working and "to do" not in working
    assert [folder.stat().st_mode & 0o077 for folder in folders[1:]] == [0], "others of this machine have no way in"
    assert started.end(signal.SIGKILL) == -signal.SIGKILL
    assert "At work" not in status(store) and f"process {started.process.pid} on " in status(store)
    assert len(set(folders)) == 2 and not [folder for folder in folders if folder.exists()]
    assert not list((store / "runs").rglob("*.json")), "the program was to be killed in training"
    (line,) = started.lines()
    assert line.startswith(lost(f"{NAME}-long", "Ray's raylet")), "one sentence, and no C++ state"
    sweep_here(store)
    assert differing(str(store), undisturbed) == []


def test_lost_gcs_lost_prefect_and_ctrl_c_between_blocks_lose_nothing_and_nothing_is_repeated(
    undisturbed: dict[str, bytes],
    program: Callable[..., Program],
    environment_of_users: dict[str, str],
    tmp_path: Path,
) -> None:
    store = tmp_path / "store"
    started = program(str(store))

    def measured() -> list[Path]:
        return list((store / "results").rglob("*.safetensors"))

    started.wait_for(lambda: checkpoints(store) >= 2)
    lose(started, store, "GCS")
    lose(started, store, "Prefect")
    assert not list((store / "runs").rglob("*.json")), "both were to be lost in training"
    started.wait_for(lambda: bool(measured()))
    assert started.end(signal.SIGINT) == 128 + signal.SIGINT
    gcs, prefect, stopped = started.lines()
    assert gcs.startswith(lost(f"{NAME}-long", "Ray's GCS"))
    assert prefect.startswith(lost(f"{NAME}-long", "Prefect's temporary server"))
    assert started.said().endswith(f"{stopped}\n")
    assert stopped == f"{NAME}-long was stopped by Ctrl-C: {KEPT}, {ON}"
    there = {path: path.stat().st_mtime_ns for path in measured()}
    environment = {**environment_of_users, "PYTHONPROFILEIMPORTTIME": "1"}
    result = call(*ARGUMENTS, str(store), "--verbose", driver=True, env=environment)
    assert result.returncode == 0, result.stderr
    assert "ray" in (imported := modules(result.stderr)) and not imported & {"torch", "scipy"}, "workers do that"
    assert {path: path.stat().st_mtime_ns for path in there} == there
    assert differing(str(store), undisturbed) == []


def modules(said: str) -> set[str]:
    """What a process imported that was told to time its imports."""
    return {line.rpartition("|")[2].strip() for line in said.splitlines() if line.startswith("import time:")}


def test_sigterm_ends_inline_work_on_object_storage_and_reaches_the_users_prefect_server(
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
