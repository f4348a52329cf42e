"""No command shows a traceback for what a user can cause: every command, with every place wrong, missing or damaged."""

import contextlib
import itertools
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command
from typer.testing import CliRunner

import specdyn.flows.cli.terminal  # noqa: F401 - nobody may not read where Python lies
from helpers.analysed import analyse
from helpers.servers import S3Server
from specdyn.flows.cli.app import app
from specdyn.flows.cli.options import BUG, friendly
from specdyn.storage.access.objects import require_writable
from specdyn.storage.places import Store
from specdyn.storage.probe import require_store
from specdyn.tasks.plan.gathering import gather
from specdyn.tasks.plan.sweeps import make_sweep

NAME = "modular_addition"
SWEEP = make_sweep(NAME, "smoke", [0.0], [0], sweep="small", settings={"steps": 10})
(SPEC,) = SWEEP.specs
NOBODY = 65534
FEW = 4
"""The most lines of an error."""


def commands() -> dict[tuple[str, ...], list[str]]:
    """Every command of the app with the names of its parameters."""

    def below(command: Any, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], list[str]]]:
        if hasattr(command, "commands"):
            for name, inner in command.commands.items():
                yield from below(inner, (*path, name))
        else:
            yield path, [parameter.name for parameter in command.params]

    return dict(below(get_command(app), ()))


GRID = [NAME, "--preset", "smoke"]
GIVEN: dict[tuple[str, ...], list[str]] = {
    ("run",): GRID,
    ("plan",): [*GRID, "-w", "0", "-s", "0", "--set", "steps=10"],
    ("connect",): GRID,
    ("tickets",): GRID,
    ("analyse",): ["SOURCES"],
    ("serve",): ["--port", "0", "--reports-port", "0"],
    ("list",): ["studies"],
    ("settings",): [NAME],
    ("status",): ["small"],
    ("ledger",): ["small"],
    ("show",): [SPEC.run_id],
    ("claims",): ["small"],
    ("replicate",): ["--tier", "XS"],
    ("report",): ["small"],
    ("compare",): ["small"],
    ("plot",): ["small", "singular_value"],
    ("export",): ["small", "--to", "csv"],
    ("explore",): ["small", "--no-browser"],
    ("verify",): [],
    ("repair",): [],
    ("gc",): [],
    ("remove",): ["small"],
    ("thin",): ["small", "--keep-every", "2"],
    ("storage", "check"): [],
    ("storage", "clean"): [],
    ("data", "list"): [],
    ("data", "fetch"): ["photos", "--variant", "sample"],
    ("data", "prepare"): ["photos", "--variant", "sample"],
    ("schedule", "add"): ["nightly", *GRID, "--every", "1d"],
    ("schedule", "list"): [],
    ("schedule", "pause"): ["nightly"],
    ("schedule", "resume"): ["nightly"],
    ("schedule", "remove"): ["nightly"],
}
"""Arguments of each command that are good."""
PLACES = {"store", "sources", "folder", "file", "notebook", "api"}
"""Parameters that name a place."""
SUFFIXES = {"file": ".png", "notebook": ".py"}
"""Of the names of files that a command writes."""
OTHERS = {
    *("across", "analyses", "at_once", "audited", "axes", "cpu_if_no_gpu", "cpus", "cron", "curve_steps", "densities"),
    *("directions", "dry_run", "every", "executor", "experiment", "gpus", "heads", "host", "keep_every", "layerwise"),
    *(
        "along",
        "figures",
        "browser",
        "as_csv",
        "as_json",
        "at",
        "by",
        "layer",
        "log",
        "masks",
        "of",
        "to",
        "variables",
    ),
    *("more_seeds", "name", "notify", "orders", "pattern", "paused", "points", "port", "preset", "public_reports_url"),
    *("public_url", "ray_address", "report", "reports_port", "retrain", "retry_failed", "rewind", "rewind_epoch"),
    *("run_id", "seeds", "settings", "sizes", "split_count", "split_epochs", "splits", "sweep", "sweeps", "timezone"),
    *(
        "delete",
        "key",
        "labels",
        "metrics",
        "pairs",
        "part",
        "revisions",
        "skip_damaged",
        "steps_per_epoch",
        "study",
        "transposed",
        "variant",
    ),
    *(
        "advice",
        "counterexamples",
        "history",
        "only",
        "plan",
        "tier",
        "verbose",
        "weight_decays",
        "weights",
        "what",
        "yes",
    ),
}
MAY_BE_EMPTY = {("list",), ("storage", "clean"), ("data", "list")}
"""Commands that have an answer where nothing is."""


def said(*arguments: str, failing: bool = True, codes: tuple[int, ...] = (2,)) -> str:
    """All that a command prints; without a traceback, and in few lines where it fails."""
    result = CliRunner().invoke(app, list(arguments), env={"COLUMNS": "1000"})
    assert isinstance(result.exception, SystemExit | None), result.exception
    assert "Traceback" not in result.output, result.output
    assert result.exit_code in (codes if failing else (0, *codes)), result.output
    if result.exit_code == 2:
        assert len(result.output.strip().splitlines()) <= FEW, result.output
    return result.output


def arguments(path: tuple[str, ...], place: str, value: str, store: str) -> list[str]:
    """The command with one place as given, all else good."""
    own = ["--store", store] if "store" in commands()[path] and path[0] != "storage" else []
    series = value if place == "sources" else f"{store}/checkpoints/{NAME}/{SPEC.run_id}"
    good = [*path, *(word if word != "SOURCES" else series for word in GIVEN[path])]
    match place:
        case "store":
            return [*good, value] if path[0] == "storage" else [*good, "--store", value]
        case "sources":
            return [*good, *own]
        case "notebook":
            return [*good, "--notebook", value, *own]
        case "folder" | "file":
            return [*good, "--out", value, *own]
        case _:
            return [*good, f"--{place}", value]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with one small sweep, made without Prefect and Ray."""
    store = require_store(str(tmp_path_factory.mktemp("finished") / "store"))
    analyse(SWEEP, store.url)
    gather(SWEEP, store, report=False)
    return Path(store.url)


@pytest.fixture(scope="module")
def open_to_all(finished: Path) -> Iterator[Path]:
    """A folder with a folder that may be read and not written, and a copy of the store that everybody may write."""
    with tempfile.TemporaryDirectory(prefix="specdyn-refused-") as place:
        base, copy, folder = Path(place), Path(place) / "store", Path(place) / "unwritable"
        shutil.copytree(finished, copy)
        folder.mkdir()
        for found in [base, copy, *copy.rglob("*")]:
            found.chmod(0o777)
        folder.chmod(0o555)
        yield base


@contextlib.contextmanager
def somebody() -> Iterator[None]:
    """Be a user who may not write everywhere, also where the tests run as root."""
    user = os.geteuid()
    try:
        if user == 0:
            os.seteuid(NOBODY)
        yield
    finally:
        os.seteuid(user)


def test_every_command_and_every_parameter_is_known_here() -> None:
    assert set(commands()) == set(GIVEN)
    assert {name for names in commands().values() for name in names} == PLACES | OTHERS


WALKED = [(path, place) for path, names in commands().items() for place in names if place in PLACES - {"api"}]
IDS = [f"{' '.join(path)}: {place}" for path, place in WALKED]


@pytest.mark.parametrize(("path", "place"), WALKED, ids=IDS)
def test_a_wrong_place_is_refused_in_a_line_that_names_it(
    path: tuple[str, ...], place: str, tmp_path: Path, finished: Path
) -> None:
    file = tmp_path / "file[x]"
    file.write_text("not a store")
    refused = path not in MAY_BE_EMPTY
    codes = (1, 2) if path == ("storage", "check") else (2,)
    for wrong in (str(file), str(file / "below")):
        output = said(*arguments(path, place, wrong, str(finished)), failing=refused, codes=codes)
        assert wrong in output
    for wrong in ("gs://bucket/prefix", "http://example.org/x", "s3://", "s3:bucket", ""):
        output = said(*arguments(path, place, wrong, str(finished)))
        assert "expected a local folder or s3://bucket/prefix" in output
    assert file.read_text() == "not a store"
    assert [found.name for found in tmp_path.iterdir()] == ["file[x]"]


@pytest.mark.parametrize(("path", "place"), WALKED, ids=IDS)
def test_a_place_that_cannot_be_written_is_refused_in_a_line_that_names_it(
    path: tuple[str, ...], place: str, open_to_all: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("overview", "report"):  # nothing is drawn before the place is tried
        monkeypatch.setattr(
            f"specdyn.tasks.figures.{module}.{'overview' if module == 'overview' else 'write_report'}", None
        )
    reading = path in MAY_BE_EMPTY or path[0] in ("plan", "status", "ledger", "show")
    folder, store = open_to_all / "unwritable", open_to_all / "store"
    before = sorted(store.rglob("*"))
    wrong = f"{folder}/below/a" + SUFFIXES.get(place, "")
    codes = (1, 2) if path == ("storage", "check") else (2,)
    with somebody():
        output = said(*arguments(path, place, wrong, str(store)), failing=not reading, codes=codes)
    assert reading or str(folder) in output
    assert sorted(store.rglob("*")) == before and list(folder.iterdir()) == []


@pytest.mark.parametrize(("path", "place"), WALKED, ids=IDS)
def test_an_unknown_bucket_is_refused_in_a_line_that_names_it(
    path: tuple[str, ...],
    place: str,
    finished: Path,
    s3_server: S3Server,
    fresh_clients: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in s3_server.environment.items():
        monkeypatch.setenv(name, value)
    wrong = "s3://nobody-made-this/below" + SUFFIXES.get(place, "")
    codes = (1, 2) if path == ("storage", "check") else (2,)
    output = said(*arguments(path, place, wrong, str(finished)), failing=path not in MAY_BE_EMPTY, codes=codes)
    assert "s3://nobody-made-this" in output


@pytest.mark.parametrize("path", [path for path, names in commands().items() if "api" in names], ids=" ".join)
def test_a_service_that_is_none_is_refused_in_a_line_that_names_it(path: tuple[str, ...]) -> None:
    from prefect.settings import PREFECT_API_URL, PREFECT_CLIENT_MAX_RETRIES, temporary_settings

    for wrong in ("nowhere", "ftp://127.0.0.1/api", "http://", ""):
        assert f"--api {wrong!r} is not allowed" in said(*arguments(path, "api", wrong, ""))
    down = "http://127.0.0.1:1/api"
    with temporary_settings({PREFECT_API_URL: down, PREFECT_CLIENT_MAX_RETRIES: 0}):
        assert f"no Prefect server answers at {down}" in said(*arguments(path, "api", down, ""))


def test_a_cache_that_cannot_be_made_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("SPECDYN_DATA", str(tmp_path / "file"))
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
    for verb in ("fetch", "prepare"):
        own = ["--store", str(tmp_path / "store")] if verb == "prepare" else []
        assert str(tmp_path / "file") in said("data", verb, "cifar10", *own)


RECORD = f"studies/{SWEEP.name}/sweep.json"
MANIFEST = f"runs/{NAME}/{SPEC.run_id}.json"
CUBE = f"studies/{SWEEP.name}/results.zarr"
USES: dict[str, list[tuple[str, ...]]] = {
    "specdyn.json": [("run",), ("plan",), ("connect",), ("tickets",), ("status",), ("show",), ("report",), ("serve",)],
    RECORD: [("list",), ("status",), ("ledger",), ("report",), ("compare",)],
    MANIFEST: [("show",), ("status",), ("plan",)],
    f"{CUBE}/zarr.json": [("report",), ("compare",), ("export",)],
}
"""Objects of a store, and commands that read them."""


CONTENTS = [b"", b"{", b"[]", b'"text"', b"\0\xff", b"{}", b'{"schema_version": 1}']


@pytest.mark.parametrize("damaged", USES)
def test_a_damaged_object_is_named(damaged: str, finished: Path, tmp_path: Path) -> None:
    store = tmp_path / "store"
    shutil.copytree(finished, store)
    # The groups of a cube are found without the root's attributes.
    contents = {f"{CUBE}/zarr.json": CONTENTS[:-2]}.get(damaged, CONTENTS)
    for content, path in itertools.product(contents, USES[damaged]):
        (store / damaged).write_bytes(content)
        output = said(*arguments(path, "store", str(store), str(store)))
        assert f"{store}/{damaged.removesuffix('/zarr.json')}" in output


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-20])


def test_results_that_were_cut_off_are_named(finished: Path, tmp_path: Path) -> None:
    store = tmp_path / "store"
    shutil.copytree(finished, store)
    for chunk in (store / CUBE / "layers").rglob("c/**/*"):
        if chunk.is_file():
            cut(chunk)
    for path in (("report",), ("compare",), ("export",)):
        assert str(store / CUBE) in said(*arguments(path, "store", str(store), str(store)))


WRITERS: dict[str, Callable[[Path], object]] = {
    "text.pt": lambda path: path.write_text("not weights\n"),
    "number.pt": lambda path: path.write_text("1.5\n"),
    "page.pt": lambda path: path.write_text("<!DOCTYPE html><html></html>"),
    "empty.pt": lambda path: path.write_bytes(b""),
    "one byte.pt": lambda path: path.write_bytes(b"."),
    "zeros.pt": lambda path: path.write_bytes(bytes(1000)),
    "folder.pt": lambda path: path.mkdir(),
    "text.safetensors": lambda path: path.write_text("not weights\n"),
    "empty.safetensors": lambda path: path.write_bytes(b""),
    "folder.safetensors": lambda path: path.mkdir(),
}


@pytest.mark.parametrize("name", WRITERS)
def test_what_is_no_checkpoint_is_named_before_anything_is_started(name: str, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    wrong = source / f"step=1{Path(name).suffix}"
    WRITERS[name](wrong)
    own = ["--store", str(tmp_path / "store")]
    assert str(source) in said("analyse", str(source), *own)
    assert str(wrong) in said("analyse", str(wrong), *own)


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_a_checkpoint_that_was_cut_off_is_named(suffix: str, tmp_path: Path) -> None:
    import torch
    from safetensors.torch import save_file

    weights = {"a.weight": torch.ones(20, 20), "b.weight": torch.ones(20, 20)}
    wrong = tmp_path / f"step=1{suffix}"
    torch.save(weights, wrong) if suffix == ".pt" else save_file(weights, wrong)
    wrong.write_bytes(wrong.read_bytes()[: 100 if suffix == ".safetensors" else 1000])
    assert str(wrong) in said("analyse", str(tmp_path), "--store", str(tmp_path / "store"))


def test_the_place_of_a_comparison_is_a_picture(finished: Path, tmp_path: Path) -> None:
    for wrong in (tmp_path, tmp_path / "figure.pdf"):
        assert f"--out '{wrong}'" in said("compare", "small", "--out", str(wrong), "--store", str(finished))


def test_trying_a_place_leaves_nothing_there(tmp_path: Path, s3_store: Store) -> None:
    from specdyn.storage.access.objects import names

    require_writable(str(tmp_path / "new"))
    require_writable(f"{s3_store}/new")
    assert list((tmp_path / "new").iterdir()) == [] and names(f"{s3_store}/new") == []


def test_a_bug_shows_its_last_calls_and_where_to_report_it(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def deep(depth: int) -> None:
        if depth:
            deep(depth - 1)
        raise KeyError("[gone]")

    def shown() -> str:
        with pytest.raises(Exit) as ended:
            friendly(deep)(20)
        assert ended.value.exit_code == 1
        return capsys.readouterr().err

    from typer import Exit

    monkeypatch.delenv("SPECDYN_TRACEBACK", raising=False)
    short = shown()
    assert "KeyError: '[gone]'" in short and " ".join(BUG.split()) in " ".join(short.split())
    assert short.count("deep(depth - 1)") < 5
    monkeypatch.setenv("SPECDYN_TRACEBACK", "1")
    assert len(shown().splitlines()) > len(short.splitlines())
