"""What can be set of an experiment, and the tables of commands as JSON."""

import io
import json

import pytest
from rich.console import Console
from rich.text import Text
from typer.testing import CliRunner

from helpers.analysed import sweep_called, train
from specdyn.flows.cli import terminal
from specdyn.flows.cli.app import app
from specdyn.models.experiments.base import EXPERIMENTS, get_experiment
from specdyn.models.plugins.kinds import names
from specdyn.models.spec.settings import settings_of
from specdyn.storage.places import Store


def ask(*arguments: str) -> tuple[str, str]:
    result = CliRunner().invoke(app, [*arguments])
    assert result.exit_code == 0, result.output
    return result.stdout, result.stderr


@pytest.mark.parametrize("experiment", names(EXPERIMENTS))
def test_every_setting_has_a_value_a_type_and_a_meaning(experiment: str) -> None:
    (shown,) = json.loads(ask("settings", experiment, "--json")[0])
    known = get_experiment(experiment)
    assert {row["setting"] for row in shown["rows"]} == set(settings_of(known.preset(known.usual).spec))
    for row in shown["rows"]:
        assert row["meaning"] and row["type"] and row["value"] != "", row


def test_values_come_from_the_named_preset() -> None:
    (shown,) = json.loads(ask("settings", "modular_addition", "--preset", "paper", "--json")[0])
    values = {row["setting"]: row["value"] for row in shown["rows"]}
    assert values["prime"] == 113 and values["steps"] == 40_000
    result = CliRunner().invoke(app, ["settings", "modular_addition", "--preset", "none"])
    assert result.exit_code == 2 and "demo" in result.output


def test_presets_of_one_experiment_alone() -> None:
    (shown,) = json.loads(ask("list", "presets", "modular_addition", "--json")[0])
    assert {row["experiment"] for row in shown["rows"]} == {"modular_addition"}
    assert {row["preset"] for row in shown["rows"]} == set(get_experiment("modular_addition").presets)
    assert CliRunner().invoke(app, ["list", "presets", "nothing"]).exit_code == 2
    assert CliRunner().invoke(app, ["list", "analyses", "modular_addition"]).exit_code == 2


def test_a_run_shows_what_differs_from_its_preset_first(local_store: Store) -> None:
    sweep = sweep_called("decay", 1.0)
    sweep.record(local_store)
    train(sweep.specs[0], local_store.url)
    printed, said = ask("show", sweep.specs[0].run_id[:8], "--store", local_store.url, "--json")
    changed, every = json.loads(printed)
    assert changed["title"].endswith("what differs from preset smoke")
    assert {row["setting"]: (row["value"], row["in the preset"]) for row in changed["rows"]} == {"steps": (20, 60)}
    assert len(every["rows"]) > 30 and "checkpoints" in said


def test_json_is_alone_on_standard_output(local_store: Store) -> None:
    sweep = sweep_called("decay", 1.0)
    sweep.record(local_store)
    for question in (("list", "studies"), ("status", "decay"), ("gc",)):
        printed, _ = ask(*question, "--store", local_store.url, "--json")
        assert isinstance(json.loads(printed), list)


def test_the_plan_of_a_tier_is_shown_as_json(local_store: Store) -> None:
    printed, _ = ask("replicate", "--tier", "XS", "--only", "g1", "--plan", "--store", local_store.url, "--json")
    (shown,) = json.loads(printed)
    assert shown["title"] == f"Tier XS in {local_store}"
    assert [(row["study"], row["done"]) for row in shown["rows"]] == [("xs-grokking", 0)]


def completed(words: str) -> list[str]:
    environment = {
        "_SPECDYN_COMPLETE": "complete_bash",
        "COMP_WORDS": words,
        "COMP_CWORD": str(len(words.split(" ")) - 1),
    }
    return CliRunner().invoke(app, [], prog_name="specdyn", env=environment).stdout.split()


def test_a_shell_completes_experiments_presets_and_studies(local_store: Store) -> None:
    sweep_called("decay", 1.0).record(local_store)
    assert completed("specdyn run image_") == ["image_classification", "image_generation"]
    assert "paper-sample" in completed("specdyn run image_generation --preset paper")
    assert completed(f"specdyn status --store {local_store.url} de") == ["decay"]
    assert completed("specdyn status --store /nowhere de") == []


@pytest.mark.parametrize(("width", "lines"), [(80, 1), (60, 2)])
def test_headings_wrap_before_columns_are_folded(width: int, lines: int, monkeypatch: pytest.MonkeyPatch) -> None:
    shown = io.StringIO()
    monkeypatch.setattr(terminal, "out", Console(file=shown, force_terminal=True, no_color=True, width=width))
    headings = ("weight decay", "seed", "run", "train error (%)", "val error (%)", "groks at step", "rank at start")
    cells = ("0.1", "0", "0d3b48222e3b", "81.5", "100.0", "never", "0.914")
    terminal.table("Results", headings, [cells])
    printed = Text.from_ansi(shown.getvalue()).plain.splitlines()
    of_run = [line.split() for line in printed if line.split()[:1] == ["0.1"]]
    assert len(of_run) == lines and all(any(cell in line for line in of_run) for cell in cells)
    assert max(map(len, printed)) <= width
