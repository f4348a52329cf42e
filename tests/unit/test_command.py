"""The command: what it refuses before anything is started, and what it says."""

import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from flows.cli import app
from models.experiment import experiment_names
from storage.locations import write
from storage.probe import require_store
from tasks.analysis import analysis_names


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
        "weight_decays='0,x' is not allowed: expected num",
    ),
    "empty": (["modular_addition", "--weight-decays", ""], "weight_decays=[] is not allowed: expected at least one"),
    "twice": (["modular_addition", "--weight-decays", "1,1.0"], "weight_decays=[1.0, 1.0] is not allowed: expected no"),
    "no seeds": (["modular_addition", "--seeds", ","], "seeds=[] is not allowed: expected at least one value"),
    "sweep name": (["modular_addition", "--sweep", "../up"], "sweep='../up' is not allowed: expected letters, digits"),
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
    monkeypatch.setattr("flows.engines.WAIT_SECONDS", 0.0)
    monkeypatch.setenv(name, value)
    assert message in said(verb, "modular_addition", "--preset", "smoke", "--store", str(tmp_path), code=2)
    if name == "RAY_ADDRESS":
        given = ("--store", str(tmp_path), "--ray-address", "127.0.0.1:2")
        assert "ray_address=127.0.0.1:2: no Ray" in said(verb, "modular_addition", *given, code=2)
    assert list(tmp_path.iterdir()) == []


def test_a_store_below_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert "error:" in said("run", "modular_addition", "--store", str(tmp_path / "file" / "store"), code=2)


def test_a_store_of_a_newer_schema_is_refused(tmp_path: Path) -> None:
    write(str(tmp_path / "specdyn.json"), b'{"schema_version": 99}')
    output = said("run", "modular_addition", "--store", str(tmp_path), code=2)
    assert "schema version 99, this specdyn reads up to 1: install a newer specdyn" in output


def test_refusing_does_not_wait_for_prefect(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "flows.weight_decay_sweep", raising=False)
    said("run", "nonsense", code=2)
    assert "flows.weight_decay_sweep" not in sys.modules


def test_plan_shows_cells_bytes_and_time_and_trains_nothing(tmp_path: Path) -> None:
    output = said("plan", "modular_addition", "--preset", "smoke", "--store", str(tmp_path))
    assert "2 of 2 runs to do" in output and "0/7" in output and "of checkpoints to write" in output
    assert list(tmp_path.iterdir()) == []


def test_list_names_everything_there_is(tmp_path: Path) -> None:
    assert all(name in said("list", "experiments") for name in experiment_names())
    presets = said("list", "presets")
    assert all(name in presets for name in ("paper", "slingshot", "data-rich", "mlp", "demo", "smoke"))
    analyses = said("list", "analyses")
    assert all(name in analyses for name in analysis_names())
    assert "unknown listing 'runs'" in said("list", "runs", code=2)
    assert str(tmp_path) in said("list", "sweeps", "--store", require_store(str(tmp_path)))


@pytest.mark.parametrize("verb", ["status", "report"])
def test_an_unknown_sweep_is_named_with_those_there_are(verb: str, tmp_path: Path) -> None:
    assert "unknown sweep 'nothing'" in said(verb, "nothing", "--store", require_store(str(tmp_path)), code=2)


def test_an_unknown_run_is_refused(tmp_path: Path) -> None:
    assert "run_id='abc' must name one run" in said("show", "abc", "--store", require_store(str(tmp_path)), code=2)


def test_storage_check_says_what_a_store_can_do(tmp_path: Path) -> None:
    output = said("storage", "check", str(tmp_path / "store"))
    assert "conditional create" in output and "error" not in output


@pytest.mark.parametrize("verb", ["run", "plan", "list", "status", "show", "report", "storage"])
def test_every_verb_explains_itself(verb: str) -> None:
    assert len(said(verb, "--help")) > 200
