"""The command: what it refuses before anything is started, and what it says."""

import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command
from typer.testing import CliRunner

from specdyn.flows.cli.app import app
from specdyn.models.experiments.base import experiment_names
from specdyn.storage.access.objects import write
from specdyn.storage.probe import require_store
from specdyn.tasks.spectra.analysis import analysis_names


def said(*arguments: str, code: int = 0) -> str:
    """All that the command prints, on one line."""
    result = CliRunner().invoke(app, list(arguments), env={"COLUMNS": "200"})
    assert result.exit_code == code, result.output
    return " ".join(result.output.split())


REFUSALS = {
    "experiment": (["nonsense"], "unknown experiment 'nonsense': known are image_classification, image_gen"),
    "near experiment": (["modular_additon"], "did you mean 'modular_addition'?"),
    "preset": (
        ["modular_addition", "--preset", "dem"],
        "unknown preset of modular_addition 'dem': known are data-rich",
    ),
    "analysis": (["modular_addition", "--analyses", "spectre"], "unknown analysis 'spectre': known are agreement"),
    "negative": (
        ["modular_addition", "--weight-decays", "0,-1"],
        "weight_decay=-1.0 is not allowed: expected a finite",
    ),
    "not finite": (["modular_addition", "--weight-decays", "inf"], "weight_decay=inf is not allowed"),
    "not a number": (
        ["modular_addition", "--weight-decays", "0,x"],
        "--weight-decays '0,x' is not allowed: expected num",
    ),
    "empty": (["modular_addition", "--weight-decays", ""], "--weight-decays '' is not allowed: expected one or more"),
    "an empty item": (
        ["modular_addition", "--weight-decays", "0,,1"],
        "--weight-decays '0,,1' is not allowed: expected one or more values separated by commas, none of them empty",
    ),
    "a comma at the end": (
        ["modular_addition", "--seeds", "0,1,"],
        "--seeds '0,1,' is not allowed: expected one or mo",
    ),
    "a seed with a point": (["modular_addition", "--seeds", "0.5"], "--seeds '0.5' is not allowed: expected whole"),
    "an empty analysis": (["modular_addition", "--analyses", "spectrum,"], "--analyses 'spectrum,' is not allowed"),
    "an empty value": (["modular_addition", "-a", "learning_rate=1e-3,,1"], "learning_rate='1e-3,,1' is not allowed"),
    "an empty setting": (
        ["modular_addition", "--set", "norm_run="],
        "norm_run='' is not allowed: expected one or more",
    ),
    "decay after the end": (
        ["modular_addition", "--set", "steps=50", "--set", "decay_until=51"],
        "decay_until=51 is not allowed: expected None, or a step up to the last (steps=50)",
    ),
    "twice": (
        ["modular_addition", "--weight-decays", "1,1.0"],
        "--weight-decays [1.0, 1.0] is not allowed: expected ea",
    ),
    "no seeds": (["modular_addition", "--seeds", ","], "--seeds ',' is not allowed: expected one or more value"),
    "sweep name": (
        ["modular_addition", "--sweep", "../up"],
        "--sweep '../up' is not allowed: expected letters, digits",
    ),
    "executor": (["modular_addition", "--executor", "slurm"], "unknown executor 'slurm': known are inline, ray"),
    "scheme": (["modular_addition", "--store", "gs://b/x"], "expected a local folder or s3://bucket/prefix"),
    "secret": (["modular_addition", "--store", "s3://key:hush@b/x"], "credentials do not belong in the URL"),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_bad_input_is_refused_before_anything_is_written(
    case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    arguments, message = REFUSALS[case]
    output = said("run", *arguments, code=2)
    assert message in output
    assert "hush" not in output
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("RAY_ADDRESS", "127.0.0.1:1", "RAY_ADDRESS=127.0.0.1:1: no Ray cluster answers there (Connection refused);"),
        ("PREFECT_API_URL", "http://127.0.0.1:1/api", "PREFECT_API_URL=http://127.0.0.1:1/api: no Prefect server ans"),
    ],
)
@pytest.mark.parametrize("verb", ["run", "connect", "tickets"])
def test_engines_that_are_gone_are_named_before_anything_is_started(
    verb: str, name: str, value: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("specdyn.flows.engine.engines.WAIT_SECONDS", 0.0)
    monkeypatch.setenv(name, value)
    assert message in said(verb, "modular_addition", "--preset", "smoke", "--store", str(tmp_path), code=2)
    if name == "RAY_ADDRESS":
        given = ("--store", str(tmp_path), "--ray-address", "127.0.0.1:2")
        assert "--ray-address 127.0.0.1:2: no Ray" in said(verb, "modular_addition", *given, code=2)
    assert list(tmp_path.iterdir()) == []


GRAPHS = {
    "points": (["connect", "--points", "2"], "--points 2 is not allowed: expected 3 or more"),
    "curve steps": (
        ["connect", "--curve-steps", "-1"],
        "--curve-steps -1 is not allowed: expected an integer of 0 or m",
    ),
    "no splits": (
        ["connect", "--split-count", "0"],
        "--split-count 0 is not allowed: expected an integer of 1 or more",
    ),
    "a split beyond the end": (
        ["connect", "--splits", "0,70"],
        "--splits 70 is not allowed: expected checkpoints of the",
    ),
    "a split at the end": (
        ["connect", "--splits", "60"],
        "--splits 60 is not allowed: expected checkpoints of the trunk",
    ),
    "an empty split": (
        ["connect", "--splits", "0,,10"],
        "--splits '0,,10' is not allowed: expected one or more values",
    ),
    "splits and epochs": (
        ["connect", "--splits", "0", "--split-epochs", "0"],
        "expected none together with splits=[0]",
    ),
    "one order": (["connect", "--orders", "3"], "--orders [3] is not allowed: expected two or more"),
    "an order twice": (["connect", "--orders", "3,3"], "--orders [3, 3] is not allowed: expected each value once"),
    "a size twice": (["connect", "--sizes", "1,1.0"], "--sizes [1.0, 1.0] is not allowed: expected each value once"),
    "a negative size": (
        ["connect", "--sizes", "-1"],
        "size=-1.0 is not allowed: expected a finite number of 0 or more",
    ),
    "no sizes": (
        ["connect", "--directions", "top"],
        "--directions ['top'] is not allowed: expected none without sizes",
    ),
    "direction": (
        ["connect", "--sizes", "1", "--directions", "up"],
        "unknown direction 'up': known are bottom, random",
    ),
    "a negative seed": (["connect", "--seeds", "-1"], "seed=-1 is not allowed: expected an integer from 0"),
    "a large seed": (
        ["tickets", "--seeds", str(2**63)],
        "seed=9223372036854775808 is not allowed: expected an integer",
    ),
    "density 0": (["tickets", "--densities", "0,0.5"], "density=0.0 is not allowed: expected a number above 0"),
    "density above 1": (
        ["tickets", "--densities", "1.5"],
        "density=1.5 is not allowed: expected a number above 0, at mo",
    ),
    "a density twice": (
        ["tickets", "--densities", "0.5,.50"],
        "--densities [0.5, 0.5] is not allowed: expected each val",
    ),
    "mask": (["tickets", "--masks", "large"], "unknown mask 'large': known are iterative, magnitude"),
    "an empty mask": (
        ["tickets", "--masks", "random,"],
        "--masks 'random,' is not allowed: expected one or more values",
    ),
    "a rewind beyond the end": (
        ["tickets", "--rewind", "70"],
        "--rewind 70 is not allowed: expected checkpoints of the t",
    ),
    "a rewind between": (
        ["tickets", "--rewind", "5"],
        "--rewind 5 is not allowed: expected checkpoints of the trunk bef",
    ),
    "an epoch beyond": (
        ["tickets", "--rewind-epoch", "99"],
        "--rewind-epoch 99.0 is not allowed: expected an epoch with",
    ),
    "a negative epoch": (
        ["tickets", "--rewind-epoch", "-1"],
        "--rewind-epoch -1.0 is not allowed: expected an epoch with",
    ),
}


@pytest.mark.parametrize("case", GRAPHS)
def test_a_graph_that_cannot_work_is_refused_before_anything_is_started(
    case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, "specdyn.flows.connect", raising=False)
    monkeypatch.delitem(sys.modules, "specdyn.flows.tickets", raising=False)
    (verb, *options), message = GRAPHS[case]
    store = ["--preset", "smoke", "--store", str(tmp_path / "store")]
    assert message in said(verb, "modular_addition", *store, *options, code=2)
    assert not {"specdyn.flows.connect", "specdyn.flows.tickets"} & set(sys.modules)


def test_norms_of_a_run_that_is_not_there_are_refused_before_anything_is_trained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    given = ["modular_addition", "--set", "norm_run=0123456789ab"]
    for verb, *options in (["run"], ["plan"]):
        output = said(verb, *given, *options, code=2)
        assert "norm_run='0123456789ab' of modular_addition is not finished in" in output
        assert "expected the run_id of a finished run" in output
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["specdyn.json"]


def test_a_store_below_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert "error:" in said("run", "modular_addition", "--store", str(tmp_path / "file" / "store"), code=2)


def test_a_store_of_a_newer_schema_is_refused(tmp_path: Path) -> None:
    write(str(tmp_path / "specdyn.json"), b'{"schema_version": 99}')
    output = said("run", "modular_addition", "--store", str(tmp_path), code=2)
    assert "schema version 99, this specdyn reads up to 2: install a newer specdyn" in output


def test_refusing_does_not_wait_for_prefect(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "specdyn.flows.sweep", raising=False)
    said("run", "nonsense", code=2)
    assert "specdyn.flows.sweep" not in sys.modules


def test_plan_shows_cells_bytes_and_time_and_trains_nothing(tmp_path: Path) -> None:
    output = said("plan", "modular_addition", "--preset", "smoke", "--store", str(tmp_path))
    assert (
        "2 of 2 trainings, 2 of 2 analyses to do" in output and "0/7" in output and "of checkpoints to write" in output
    )
    assert list(tmp_path.iterdir()) == []


def test_list_names_everything_there_is(tmp_path: Path) -> None:
    assert all(name in said("list", "experiments") for name in experiment_names())
    presets = said("list", "presets")
    assert all(name in presets for name in ("paper", "slingshot", "data-rich", "mlp", "demo", "smoke"))
    analyses = said("list", "analyses")
    assert all(name in analyses for name in analysis_names())
    assert "unknown listing 'runs'" in said("list", "runs", code=2)
    assert str(tmp_path) in said("list", "studies", "--store", require_store(str(tmp_path)).url)


@pytest.mark.parametrize("verb", ["status", "report"])
def test_an_unknown_sweep_is_named_with_the_known_ones(verb: str, tmp_path: Path) -> None:
    store = require_store(str(tmp_path))
    assert re.search("no (study|results) called 'nothing' in", said(verb, "nothing", "--store", store.url, code=2))


def test_an_unknown_run_is_refused(tmp_path: Path) -> None:
    store = require_store(str(tmp_path))
    assert f"no run in {tmp_path} starts with 'abc'" in said("show", "abc", "--store", store.url, code=2)


def test_storage_check_says_what_a_store_can_do(tmp_path: Path) -> None:
    output = said("storage", "check", str(tmp_path / "store"))
    assert "conditional create" in output and "error" not in output


def help_of(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Every command and every group of commands."""
    yield path
    for name, inner in getattr(command, "commands", {}).items():
        yield from help_of(inner, (*path, name))


@pytest.mark.parametrize("path", list(help_of(get_command(app))), ids=lambda path: " ".join(path) or "specdyn")
def test_every_command_explains_itself_by_both_options(path: tuple[str, ...]) -> None:
    explained = said(*path, "--help")
    assert len(explained) > 200
    assert said(*path, "-h") == explained


def test_the_version_is_that_of_the_package() -> None:
    project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())["project"]
    assert said("--version") == f"specdyn {project['version']}"


@pytest.mark.parametrize("line", ["rnu", "run", "run --nope", "--nope list", "schedule nope"])
def test_a_line_that_cannot_be_read_has_one_error_and_where_to_find_help(line: str) -> None:
    ended = CliRunner().invoke(app, line.split())
    assert ended.exit_code == 2
    assert re.fullmatch(r"error: [^\n]+\nTry 'specdyn[ a-z]* -h' for help\.\n", ended.stderr)
    assert not ended.stdout
