"""Plug-ins by the command: where they are from, those that cannot be used, and places that are none."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from helpers import plugins
from specdyn.flows.cli.app import app
from specdyn.flows.service.serve import Service, _prepare_environment
from specdyn.models.plugins import places
from specdyn.storage.places import Store
from specdyn.tasks.spectra.analysis import analysis_names


@pytest.fixture(autouse=True)
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with an analysis, an experiment, and one of each kind that cannot be used."""
    folder = tmp_path / "lab"
    plugins.analysis(folder)
    plugins.experiment(folder)
    for name in ("EXPERIMENT", "ANALYSIS", "FIGURE", "DATASETS", "FAMILY"):
        plugins.write(folder, f"bad_{name.lower()}", f"import no_such_module\n{name} = 1\n")
    monkeypatch.chdir(tmp_path)
    yield folder
    places.forget()


def said(*words: str, code: int = 0) -> str:
    """All that the command prints, on one line."""
    result = CliRunner().invoke(app, list(words), env={"COLUMNS": "400"})
    assert isinstance(result.exception, SystemExit | None), result.exception
    assert result.exit_code == code, result.output
    return " ".join(result.output.split())


@pytest.mark.parametrize(
    ("listing", "named", "bad"),
    [
        (("list",), "scaled", "experiment"),
        (("list", "presets"), "scaled", "experiment"),
        (("list", "analyses"), "largest", "analysis"),
        (("list", "figures"), "", "figure"),
        (("list", "families"), "", "family"),
        (("data", "list"), "", "datasets"),
    ],
)
def test_a_listing_says_where_each_is_from_and_why_one_cannot_be_used(
    listing: tuple[str, ...], named: str, bad: str
) -> None:
    text = said("--plugins", "lab", *listing)
    assert f"bad_{bad} cannot be used: ModuleNotFoundError: No module named 'no_such_module' (line 1)" in text
    assert f"lab/bad_{bad}.py" in text
    assert f"lab/{named}.py" in text or not named


def test_programs_read_the_same(lab: Path) -> None:
    result = CliRunner().invoke(app, ["--plugins", "lab", "list", "--json"])
    rows = {row["name"]: row for row in json.loads(result.stdout)[0]["rows"]}
    assert rows["scaled"]["from"] == "lab/scaled.py"
    assert rows["bad_experiment"]["what it is"].startswith("cannot be used: ModuleNotFoundError: No module named")


def test_nothing_is_said_of_places_where_there_are_no_plugins() -> None:
    assert "from" not in said("list", "families").split()


def test_one_that_cannot_be_used_is_refused_by_name_with_the_reason(lab: Path) -> None:
    why = f"of {lab}/bad_experiment.py cannot be used: ModuleNotFoundError: No module named 'no_such_module' (line 1)"
    assert f"experiment 'bad_experiment' {why}" in said("--plugins", "lab", "plan", "bad_experiment", code=2)
    asked = ("plan", "modular_addition", "-p", "smoke", "-w", "0", "-s", "0", "--analyses", "bad_analysis")
    assert "analysis 'bad_analysis' of" in said("--plugins", "lab", *asked, code=2)
    usual = said("--plugins", "lab", "plan", "modular_addition", "-p", "smoke", "-w", "0", "-s", "0")
    assert "1 of 1 trainings, 1 of 1 analyses to do" in usual
    assert "unknown experiment 'scald'" in said("--plugins", "lab", "plan", "scald", code=2)


def test_several_places_and_the_variables_own(lab: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other, third = (plugins.analysis(tmp_path / name, name) for name in ("other", "third"))
    monkeypatch.setenv(places.PATHS, str(third))
    text = said("--plugins", str(lab / "largest.py"), "--plugins", "other", "list", "analyses")
    assert all(str(file.relative_to(tmp_path)) in text for file in (lab / "largest.py", other, third))


def test_a_place_that_is_none_is_refused_before_anything(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").touch()
    for place, why in (("nowhere", "does not exist"), ("notes.txt", "is not a Python file")):
        text = said("--plugins", place, "list", code=2)
        assert text.startswith(f"error: plug-in {tmp_path}/{place} {why}: expected a .py file or a folder")


def test_two_of_one_name_are_refused_with_both_places(lab: Path) -> None:
    shutil.copy(lab / "largest.py", lab / "copy.py")
    text = said("--plugins", "lab", "list", "analyses", code=2)
    assert f"'largest' is declared twice, by {lab}/copy.py and by {lab}/largest.py" in text


def test_processes_of_a_service_have_the_plugins_of_its_command(
    lab: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Flows run as processes in other folders, with the environment that the service prepares."""
    (tmp_path / "pyproject.toml").write_text('[tool.specdyn]\nplugins = ["lab/scaled.py"]\n')
    monkeypatch.setenv(places.PATHS, "lab/largest.py")
    places.forget()
    store = str(tmp_path / "store")
    _prepare_environment(Service(store=store), Store(store), 4200, 4201)
    assert os.environ[places.PATHS] == os.pathsep.join([f"{lab}/largest.py", f"{lab}/scaled.py"])
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert "largest" in analysis_names()


HELP = """
import sys
from specdyn.flows.cli.app import app
from specdyn.models.plugins import places
try:
    app(["--help"])
except SystemExit:
    looked = places._found.cache_info().misses
    print(sorted(set(sys.modules) & {"torch", "prefect", "ray", "xarray", "lab_was_run"}), looked)
"""


def test_help_looks_for_no_plugin(lab: Path) -> None:
    """Neither for files nor for entry points, whose search takes up to a tenth of a second."""
    plugins.write(lab, "scaled", "import sys\nsys.modules['lab_was_run'] = sys\nEXPERIMENT = 1\n")
    ended = subprocess.run(
        [sys.executable, "-c", HELP],
        env={**os.environ, places.PATHS: str(lab)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert ended.stdout.splitlines()[-1] == "[] 0"
