"""Plug-ins by name: files, folders, projects and packages; two of one name, those that do not import, none at all."""

import os
import pickle
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from helpers import plugins
from specdyn.models.datasets.base import dataset_names, get_dataset
from specdyn.models.experiments.base import EXPERIMENTS, experiment_names, get_experiment
from specdyn.models.families.base import families, family_names
from specdyn.models.plugins import kinds, places
from specdyn.models.plugins.sources import IMPORTER
from specdyn.tasks.spectra.analysis import (
    ANALYSES,
    analysis_names,
    default_analyses,
    get_analysis,
    present_versions,
    versions_of,
)

FAMILY = """
from specdyn.models.families.base import HEAD, Family, Rule

FAMILY = Family(name="tiny", title="Tiny", rules=(Rule(pattern="out", role=HEAD),), feeds=(), known_by=("out",))
"""
DATASET = """
from specdyn.models.datasets.base import Dataset, RemoteFile

NAME = "dots"
DATASETS = {
    "full": Dataset(
        name=NAME, variant="full", kind="images", title="Dots", files=(RemoteFile(url="https://host.example/dots"),),
        decode=lambda paths: ({}, {}), licence="none", attribution="nobody",
    )
}
"""


@pytest.fixture(autouse=True)
def fresh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Look for plug-ins again, in a working folder of its own."""
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    places.forget()
    yield
    places.forget()


def name_places(monkeypatch: pytest.MonkeyPatch, *paths: Path) -> None:
    monkeypatch.setenv(places.PATHS, os.pathsep.join(map(str, paths)))


def test_files_and_folders_of_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lab = tmp_path / "lab"
    plugins.analysis(lab)
    plugins.write(lab, "net_parts", FAMILY + DATASET)
    plugins.write(lab, "tools", "EXPERIMENTS = 3\n")
    alone = plugins.experiment(tmp_path / "other")
    plugins.analysis(tmp_path / "other", "not_named")
    before = [names() for names in (analysis_names, family_names, dataset_names, experiment_names)]
    name_places(monkeypatch, lab, alone)
    after = [names() for names in (analysis_names, family_names, dataset_names, experiment_names)]
    new = [sorted(set(now) - set(then)) for now, then in zip(after, before, strict=True)]
    assert new == [["largest"], ["tiny"], ["dots"], ["scaled"]]
    assert kinds.origin(ANALYSES, "largest") == str(lab / "largest.py")
    assert kinds.origin(ANALYSES, "spectrum") == ""
    assert "tiny" in [family.name for family in families()]
    assert get_dataset("dots", "full").source
    assert get_experiment("scaled").source == get_experiment("scaled").preset("smoke").spec.source != ""


def test_names_are_known_without_running_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name_places(monkeypatch, plugins.write(tmp_path, "lab", "raise SystemExit('run')\nANALYSIS = f(name='idle')\n"))
    assert "idle" in analysis_names()
    assert "lab" not in experiment_names()


def test_a_relative_path_and_one_that_is_named_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = plugins.analysis(tmp_path / "lab")
    monkeypatch.setenv(places.PATHS, os.pathsep.join(["../lab", str(file), "../lab/largest.py"]))
    assert kinds.origin(ANALYSES, "largest") == str(file)
    assert places.paths() == [str(tmp_path / "lab"), str(file)]


def test_the_project_of_the_working_folder_or_the_nearest_above(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plugins.analysis(tmp_path / "lab")
    (tmp_path / "pyproject.toml").write_text('[tool.specdyn]\nplugins = ["lab"]\n')
    assert "largest" in analysis_names()
    (tmp_path / "work" / "pyproject.toml").write_text("[project]\nname = 'nearer'\n")
    places.forget()
    assert "largest" not in analysis_names()
    (tmp_path / "work" / "pyproject.toml").write_text('[tool.specdyn]\nplugins = ["../lab/largest.py"]\n')
    places.forget()
    assert kinds.origin(ANALYSES, "largest") == str(tmp_path / "lab" / "largest.py")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('[tool.specdyn]\nplugins = "lab"\n', r"pyproject.toml: \[tool.specdyn\] plugins='lab' is not allowed"),
        ('[tool.specdyn]\nplugins = ["nowhere"]\n', "nowhere does not exist: expected a .py file or a folder"),
        ("[tool", "pyproject.toml cannot be read"),
    ],
)
def test_a_project_that_names_no_place_is_refused(text: str, said: str) -> None:
    Path("pyproject.toml").write_text(text)
    with pytest.raises(ValueError, match=said):
        analysis_names()


def test_a_file_that_is_no_python_file_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "notes.txt").write_text("ANALYSIS")
    name_places(monkeypatch, tmp_path / "notes.txt")
    with pytest.raises(ValueError, match=r"notes.txt is not a Python file: expected a .py file or a folder"):
        analysis_names()


def test_a_working_folder_that_was_removed_names_none(tmp_path: Path) -> None:
    (tmp_path / "work").rmdir()
    assert "spectrum" in analysis_names()


def test_the_switch_leaves_out_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name_places(monkeypatch, tmp_path / "nowhere")
    Path("pyproject.toml").write_text("[tool")
    monkeypatch.setenv(places.OFF, "1")
    assert "spectrum" in analysis_names()
    assert places.plugins() == ()
    monkeypatch.setenv(places.OFF, "0")
    with pytest.raises(ValueError, match="pyproject"):
        analysis_names()


def test_packages_declare_by_entry_points(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    plugins.write(tmp_path / "labkit", "__init__", "")
    plugins.analysis(tmp_path / "labkit")
    plugins.write(tmp_path / "labkit", "parts", FAMILY.replace("FAMILY =", "class Parts:\n  tiny ="))
    entries = {
        "specdyn.analyses": {"largest": "labkit.largest:ANALYSIS", "absent": "labkit.gone:ANALYSIS"},
        "specdyn.families": {"tiny": "labkit.parts:Parts.tiny", "wrong": "labkit.largest:ANALYSIS"},
    }
    plugins.package(tmp_path, "labkit", entries)
    assert {"largest", "absent"} <= set(analysis_names())
    assert "labkit" not in sys.modules, "names are known without an import"
    assert kinds.origin(ANALYSES, "largest") == "labkit 1.2, labkit.largest:ANALYSIS"
    assert get_analysis("largest").source
    assert "tiny" in [family.name for family in families()]
    told = {one.name: one.why for kind in (ANALYSES, families_kind()) for one in kinds.broken(kind)}
    assert told == {
        "absent": "ImportError: there is no Python source of labkit.gone",
        "wrong": "TypeError: expected Family of specdyn, got Analysis",
    }
    for name in [name for name in sys.modules if name.partition(".")[0] == "labkit"]:
        del sys.modules[name]


def families_kind() -> "kinds.Kind[object]":
    from specdyn.models.families.base import FAMILIES

    return FAMILIES  # type: ignore[return-value]


@pytest.mark.parametrize("name", ["largest", "spectrum"])
def test_a_name_that_is_there_twice_is_refused_with_both_places(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = plugins.analysis(tmp_path, name, file="first"), plugins.analysis(tmp_path, name, file="second")
    name_places(monkeypatch, *([first, second] if name == "largest" else [second]))
    other = str(first) if name == "largest" else "specdyn itself"
    with pytest.raises(ValueError, match="declared twice") as caught:
        analysis_names()
    assert str(caught.value).startswith(f"analysis {name!r} is declared twice, by {other} and by {second}: rename one")
    assert "modular_addition" in experiment_names(), "other kinds are as they were"


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("import no_such_module\nANALYSIS = 1\n", "ModuleNotFoundError: No module named 'no_such_module' (line 1)"),
        ("ANALYSIS = 1 +\n", "SyntaxError: invalid syntax"),
        ("import beside\nANALYSIS = 1\n", "a file beside it is imported by `from . import beside` (line 1)"),
        ("ANALYSIS = 1\n", "TypeError: expected Analysis of specdyn, got int"),
        ("import sys\nsys.exit(3)\nANALYSIS = 1\n", "SystemExit: 3 (line 2)"),
        (
            "name = 'x'\nANALYSIS = dict(name='x/y')\n",
            "ValueError: its name is 'x/y': expected letters, digits and '_'",
        ),
    ],
)
def test_one_that_cannot_be_used_keeps_nothing_from_work(
    text: str, why: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    usual, versions = default_analyses(), present_versions()
    plugins.write(tmp_path / "lab", "beside", "")
    file = plugins.write(tmp_path / "lab", "broken", text)
    name_places(monkeypatch, tmp_path / "lab")
    assert (default_analyses(), present_versions()) == (usual, versions)
    (one,) = kinds.broken(ANALYSES)
    assert (one.place, why in one.why) == (str(file), True), one.why
    assert caplog.text.count(one.why) == 1, "told once"
    with pytest.raises(kinds.NotUsable, match=f"analysis '{one.name}' of .*broken.py cannot be used: ") as caught:
        get_analysis(one.name)
    assert one.why in str(caught.value)


@pytest.mark.parametrize(
    ("before", "after", "why"),
    [
        ('name="largest"', "name=str('other')", "declares name='other' and is listed as 'largest': write the name"),
        ('of="layer"', 'of="line"', "unknown view `of` 'line': known are checkpoint, layer, pair, run"),
        (
            'variables={"largest"',
            'variables={"spectral_norm"',
            "variable='spectral_norm' is not allowed: expected another",
        ),
        ('("layer", "step")', '("layer", "fold")', "unknown dimension of largest (a new one needs `labels`) 'fold'"),
        ("compute=compute", 'compute=compute, labels={"fraction": (0.5,)}', "labels of fraction=(0.5,) is not allowed"),
    ],
)
def test_an_analysis_that_cannot_stand_beside_the_others_is_refused(
    before: str, after: str, why: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = plugins.analysis(tmp_path)
    assert before in file.read_text()
    file.write_text(file.read_text().replace(before, after))
    name_places(monkeypatch, file)
    (one,) = kinds.broken(ANALYSES)
    assert why in one.why


def test_two_analyses_with_one_variable_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = plugins.analysis(tmp_path), plugins.analysis(tmp_path, "again")
    second.write_text(second.read_text().replace('variables={"again"', 'variables={"largest"'))
    name_places(monkeypatch, first, second)
    assert versions_of(["largest"])
    with pytest.raises(ValueError, match="another name, as the analysis largest has this one"):
        versions_of(["largest", "again"])


KINDS = """
from dataclasses import dataclass

@dataclass
class Loose:
    width: int = 3

@dataclass(frozen=True)
class Texts:
    width: "int" = 3
"""


@pytest.mark.parametrize(
    ("before", "after", "why"),
    [
        ('usual="smoke"', 'usual="demo"', "usual='demo' is not allowed: expected one of its presets smoke"),
        (
            'experiment="scaled", ',
            "",
            "experiment of preset smoke='modular_addition' is not allowed: expected 'scaled'",
        ),
        ('usual="smoke"', 'usual="smoke", kinds=()', "net and data of its kinds"),
        (
            'usual="smoke"',
            'usual="smoke", kinds=(int,)',
            "kinds=<class 'int'> is not allowed: expected frozen dataclasses",
        ),
        ('usual="smoke"', 'usual="smoke", kinds=(Loose,)', "Loose'> is not allowed: expected frozen dataclasses"),
        ('usual="smoke"', 'usual="smoke", kinds=(Texts,)', "the type of width in Texts='int' is not allowed"),
    ],
)
def test_an_experiment_whose_presets_are_of_something_else_is_refused(
    before: str, after: str, why: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = plugins.experiment(tmp_path, imports=KINDS)
    assert before in file.read_text()
    file.write_text(file.read_text().replace(before, after))
    name_places(monkeypatch, file)
    (one,) = kinds.broken(EXPERIMENTS)
    assert why in one.why


def test_an_edit_changes_the_version_of_an_analysis(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = plugins.analysis(tmp_path)
    name_places(monkeypatch, file)
    before = versions_of(["spectrum", "largest"])
    assert before == {"spectrum": 1, "largest": f"1+{get_analysis('largest').source}"}
    plugins.analysis(tmp_path, factor=2)
    assert versions_of(["spectrum", "largest"]) == before, "as it was imported, so that the digest is of what runs"
    places.forget()
    after = versions_of(["spectrum", "largest"])
    assert after["spectrum"] == 1
    assert after["largest"] != before["largest"]


def test_an_edit_changes_the_key_of_a_data_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = plugins.write(tmp_path, "dots", DATASET)
    name_places(monkeypatch, file)
    before = get_dataset("dots", "full").key
    file.write_text(DATASET.replace("({}, {})", "({}, {'new': 1})"))
    places.forget()
    assert get_dataset("dots", "full").key != before


PROGRAM = """
import pickle, sys
sent, of_a_class, function = pickle.load(sys.stdin.buffer)
from specdyn.tasks.spectra.analysis import analysis_names, get_analysis
import labkit.packed
print(of_a_class.width, function(), get_analysis("largest").counted, "own" in analysis_names())
print(get_analysis("packed").counted, labkit.packed.__file__)
"""


def test_what_is_sent_makes_plugins_known_before_what_follows_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a process that has plug-ins of its own, none of which counts; sources are sent, no files."""
    lab = tmp_path / "lab"
    plugins.analysis(lab)
    plugins.write(lab, "net", "class Net:\n    width = 3\n\ndef four():\n    return 4\nFAMILY = None\n")
    plugins.write(tmp_path / "site" / "labkit", "__init__", "")
    packed = plugins.analysis(tmp_path / "site" / "labkit", "packed")
    plugins.package(tmp_path / "site", "labkit", {"specdyn.analyses": {"packed": "labkit.packed:ANALYSIS"}})
    monkeypatch.syspath_prepend(tmp_path / "site")
    name_places(monkeypatch, lab)
    code = next(one for one in places.plugins() if one.name == "net").code()
    IMPORTER.add(code.sources)
    module = __import__(code.module, fromlist=["Net"])
    data = pickle.dumps((places.sent(), module.Net(), module.four))
    versions = [str(get_analysis(name).counted) for name in ("largest", "packed")]
    for file in (*lab.glob("*.py"), packed):
        file.unlink()
    own = plugins.analysis(tmp_path / "own", "own")
    ended = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        input=data,
        env={**os.environ, places.PATHS: str(own)},
        capture_output=True,
        check=True,
    )
    assert ended.stdout.decode().split() == ["3", "4", versions[0], "False", versions[1], str(packed)]
    for name in ("labkit.packed", "labkit"):
        del sys.modules[name]
