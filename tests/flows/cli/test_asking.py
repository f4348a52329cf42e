"""Commands that only ask: they write and delete nothing, make no store, and do with a key that may only read."""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import pytest
from typer.testing import CliRunner

from helpers.analysed import NAME, analyse, sweep_called
from helpers.servers import S3Server, forget_clients
from specdyn.flows.cli.app import app
from specdyn.storage.access import objects
from specdyn.storage.places import Store
from specdyn.storage.probe import existing_store, planned_store, probe, require_store
from specdyn.storage.query import open_results
from specdyn.tasks.plan.branching.graph import connectivity_graph, trunk_specs
from specdyn.tasks.plan.gathering import gather

SWEEP = sweep_called("decay", 1.0, analyses=("spectrum", "effective_rank"))
OF_A_STORE = {
    "list": ("list", "studies"),
    "status": ("status", "decay"),
    "status of a graph": ("status", "g"),
    "show": ("show", SWEEP.specs[0].run_id[:6]),
    "ledger": ("ledger", "decay"),
    "ledger of a graph": ("ledger", "g"),
    "report": ("report", "decay"),
    "compare": ("compare", "decay"),
    "plot": ("plot", "decay", "effective_rank"),
    "export": ("export", "decay", "--variables", "effective_rank"),
    "explore": ("explore", "decay"),
    "verify": ("verify",),
    "verify a study": ("verify", "decay"),
    "gc": ("gc",),
    "remove": ("remove", "decay"),
    "thin": ("thin", "decay", "--keep-every", "2"),
}
"""What answers only where there is a store."""
OF_ANY_PLACE = {
    "plan": ("plan", NAME, "-p", "smoke", "--set", "steps=20"),
    "plan with data": ("plan", "image_classification", "-p", "smoke", "-w", "0", "-s", "0"),
    "data list": ("data", "list"),
}
"""What also answers where there is none yet."""


def tree(folder: Path) -> dict[str, tuple[int, int]]:
    """Every file and folder below, with size and time of writing."""
    return {str(path.relative_to(folder)): (path.stat().st_size, path.stat().st_mtime_ns) for path in folder.rglob("*")}


def ask(*arguments: str, store: Store, code: int = 0) -> str:
    """All that the command prints, on one line."""
    result = CliRunner().invoke(app, [*arguments, "--store", store.url], env={"COLUMNS": "300"})
    assert result.exit_code == code, result.output
    return " ".join(result.output.split())


def test_every_command_is_in_one_of_these_lists() -> None:
    """A new command is to be said here to ask or to write."""
    writing = {"run", "analyse", "connect", "tickets", "claims", "replicate", "serve", "repair"}
    found = {command.name or command.callback.__name__.strip("_") for command in app.registered_commands}  # type: ignore[union-attr]
    asking = {arguments[0] for arguments in (*OF_A_STORE.values(), *OF_ANY_PLACE.values())} - {"data"}
    assert found == writing | asking | {"settings"}, "settings are of no store"


@pytest.mark.parametrize("command", OF_A_STORE)
def test_asking_a_store_that_is_not_there_names_it_and_makes_nothing(command: str, tmp_path: Path) -> None:
    for store in (tmp_path / "typo", tmp_path / "deep" / "typo"):
        said = ask(*OF_A_STORE[command], store=Store(str(store)), code=2)
        assert f"No store at {store}" in said
        assert tree(tmp_path) == {}
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "notes.txt").write_text("somebody's own")
    before = tree(tmp_path)
    assert "No store at" in ask(*OF_A_STORE[command], store=Store(str(tmp_path / "other")), code=2)
    assert tree(tmp_path) == before


@pytest.mark.parametrize("command", OF_ANY_PLACE)
def test_planning_for_a_store_that_is_not_there_yet_makes_nothing(command: str, tmp_path: Path) -> None:
    said = ask(*OF_ANY_PLACE[command], store=Store(str(tmp_path / "new")))
    assert "2 of 2 trainings" in said or "1 of 1 trainings" in said or command == "data list"
    assert tree(tmp_path) == {}


def test_cleaning_and_checking_a_place_that_is_not_there_make_nothing(tmp_path: Path) -> None:
    runner = CliRunner()
    cleaned = runner.invoke(app, ["storage", "clean", str(tmp_path / "typo")], env={"COLUMNS": "300"})
    assert cleaned.exit_code == 2 and "No store at" in cleaned.output
    checked = runner.invoke(app, ["storage", "check", str(tmp_path / "deep" / "new")], env={"COLUMNS": "300"})
    assert checked.exit_code == 0, checked.output
    assert tree(tmp_path) == {}
    (tmp_path / "there").mkdir()
    assert all(check.ok for check in probe(str(tmp_path / "there"))), "a folder that was there stays"
    assert list(tree(tmp_path)) == ["there"]


def test_a_place_that_can_be_no_store_is_refused_at_once(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for asks in (existing_store, planned_store):
        with pytest.raises(objects.StoreError, match="a part of this path is a file"):
            asks(f"{tmp_path}/file/x")


def fill(store: Store) -> None:
    """Put a sweep that is analysed, its cube, and a graph's record into a store."""
    require_store(store.url)
    analyse(SWEEP, store.url)
    gather(SWEEP, store, report=False)
    graph = connectivity_graph("g", trunk_specs(NAME, "smoke", (0,), {"steps": 20}), (10,), (3, 4))
    graph.record(store)


def questions(out: Path) -> dict[str, Sequence[str]]:
    """Every question, its answers that are files to be put elsewhere than in the store."""
    elsewhere = {
        "report": ("--out", str(out / "report")),
        "compare": ("--out", str(out / "comparison.png")),
        "plot": ("--out", str(out / "plot.png")),
        "export": ("--out", str(out / "tables")),
        "explore": ("--notebook", str(out / "explore.py")),
    }
    return {name: (*given, *elsewhere.get(name, ())) for name, given in {**OF_A_STORE, **OF_ANY_PLACE}.items()}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A filled store in a folder."""
    folder = tmp_path_factory.mktemp("whole") / "store"
    fill(Store(str(folder)))
    return folder


def test_questions_change_nothing_in_a_folder(whole: Path, tmp_path: Path) -> None:
    before = tree(whole)
    for given in questions(tmp_path).values():
        ask(*given, store=Store(str(whole)))
    open_results(Store(str(whole)).cube("decay")).load()
    assert tree(whole) == before
    assert (tmp_path / "report" / "index.html").is_file() and (tmp_path / "comparison.png").is_file()
    assert (tmp_path / "tables" / "results" / "layers" / "run-layer-step.csv").is_file()


READING = """
import os, sys
from typer.testing import CliRunner
from specdyn.flows.cli.app import app
from specdyn.storage.places import Store
from specdyn.storage.query import open_results
store, questions = sys.argv[1], [line.split("\t") for line in sys.stdin.read().splitlines()]

def answered():
    for question in questions:
        result = CliRunner().invoke(app, [*question, "--store", store])
        if result.exit_code:
            sys.exit(f"{question}: {result.output} {result.exception!r}")
    return int(open_results(Store(store).cube("decay"))["layers"].sizes["run"])

answered()  # imports everything: somebody else may not read Python's own files
os.setgid(65534)
os.setuid(65534)
try:
    open(f"{store}/mine", "w")
except PermissionError:
    print(answered())
"""


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become somebody who may not write there")
def test_questions_are_answered_to_somebody_who_may_only_read_the_folder(whole: Path) -> None:
    asked = "\n".join("\t".join(OF_A_STORE[name]) for name in ("list", "status", "status of a graph", "show"))
    with tempfile.TemporaryDirectory() as folder:
        store = shutil.copytree(whole, f"{folder}/store")
        os.chmod(folder, 0o755)
        done = subprocess.run(
            [sys.executable, "-c", READING, store],
            input=asked,
            text=True,
            capture_output=True,
            timeout=300,
            check=False,
        )
    assert (done.returncode, done.stdout.strip()) == (0, "1"), done.stderr


def test_questions_to_s3_write_and_delete_nothing_and_a_key_that_may_read_suffices(
    s3_store: Store, s3_server: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(s3_store)
    forget_clients()
    for name, value in s3_server.reading.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(objects.StoreError, match="access denied"):
        objects.write(f"{s3_store}/mine", b"")
    with s3_server.counted() as requests:
        for name, given in questions(tmp_path).items():
            if name != "plan with data":
                ask(*given, store=s3_store)
        open_results(s3_store.cube("decay")).load()
        assert "No store at" in ask("status", "decay", store=Store(f"{s3_store}/typo"), code=2)
        assert "2 of 2 trainings" in ask(*OF_ANY_PLACE["plan"], store=Store(f"{s3_store}/new"))
    assert {request.split()[0] for request in requests} == {"GET", "HEAD"}
