"""Whether a call that analyses other programs' checkpoints has anything to do, and what it says where it has not."""

import dataclasses
import json
import os
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from typer.testing import CliRunner

from specdyn.flows.cli.app import app
from specdyn.flows.outcome import Outcome, outcome_of
from specdyn.storage.access import objects
from specdyn.storage.places import Store
from specdyn.tasks.foreign.audit import Finding
from specdyn.tasks.foreign.names import FOREIGN
from specdyn.tasks.foreign.series import ForeignSeries
from specdyn.tasks.plan import series
from specdyn.tasks.plan.gathering import finished_results, gather
from specdyn.tasks.plan.here import ThisProcess
from specdyn.tasks.plan.series import SeriesStudy, analyse_series
from specdyn.tasks.plan.sources import AuditFailed, look, require_sound

NAME, ANALYSES = "theirs", ("spectrum",)


def seen(folder: Path, analyses: tuple[str, ...] = ANALYSES) -> SeriesStudy:
    return SeriesStudy(name=NAME, sources=(look(str(folder)),), analyses=analyses, audited=True)


def finished(folder: Path, store: Store, analyses: tuple[str, ...] = ANALYSES, report: bool = False) -> bool:
    return finished_results(seen(folder, analyses), store, report) is not None


def tree(folder: str | Path) -> dict[str, tuple[bytes, int]]:
    """Every file below with its time of writing."""
    files = (path for path in Path(folder).rglob("*") if path.is_file())
    return {str(path): (path.read_bytes(), path.stat().st_mtime_ns) for path in files}


def save(folder: Path, step: int) -> None:
    draw = torch.Generator().manual_seed(step)
    folder.mkdir(exist_ok=True)
    weights = {"up.weight": torch.randn(6, 4, generator=draw), "scale": torch.ones(3, 2, dtype=torch.int64)}
    save_file(weights, folder / f"step={step}.safetensors")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for step in (0, 10):
        save(tmp_path / "series", step)
    return tmp_path / "series"


@pytest.fixture
def store(tmp_path: Path, folder: Path) -> Store:
    """A store that has the series: analysed and gathered, without a report."""
    store, study = Store(str(tmp_path / "store")), seen(folder)
    analyse_series(ThisProcess(), lambda _: None, study.sources[0], ANALYSES, store)
    study.record(store)
    assert gather(study, store, report=False)[1]
    return store


def test_what_is_analysed_and_gathered_is_finished(folder: Path, store: Store) -> None:
    before, study = tree(store.url), seen(folder)
    assert finished(folder, store) and study.results(store).measured == 1
    assert [item.state for item in study.items(store)] == ["done"]
    assert not finished(folder, store, report=True), "no report was drawn"
    assert tree(store.url) == before
    objects.write(study.results(store).report[0], b"a page")
    objects.write(study.results(store).note, json.dumps({"contents": study.results(store).contents}).encode())
    assert finished(folder, store, report=True)


def test_what_lacks_something_is_not_finished_and_nothing_is_written(folder: Path, store: Store) -> None:
    before = tree(store.url)
    assert not finished(folder, store, ("spectrum", "shape")), "another analysis"
    os.utime(folder / "step=10.safetensors", (1, 1))
    assert not finished(folder, store), "a file that may have changed"
    save(folder, 20)
    assert not finished(folder, store), "another checkpoint"
    assert not finished(folder, Store(f"{store}/elsewhere")), "another store"
    assert tree(store.url) == before


def test_a_block_and_a_cube_that_are_missing_are_not_passed_over(folder: Path, store: Store) -> None:
    run_id = seen(folder).results(store).found[0].results
    cube, results = store.cube(NAME), store.run_results(FOREIGN, run_id.partition("/")[0])
    shutil.move(cube, f"{cube}.away")
    assert not finished(folder, store)
    shutil.move(f"{cube}.away", cube)
    assert finished(folder, store)
    (part,) = [name for name in objects.names(results) if name.startswith("00000010")]
    objects.delete(f"{results}/{part}")
    assert not finished(folder, store)


def test_the_command_says_so_audits_and_writes_nothing(folder: Path, store: Store) -> None:
    before = tree(store.url)
    given = ["analyse", str(folder), "--name", NAME, "--analyses", "spectrum", "--no-report", "--store", store.url]
    result = CliRunner().invoke(app, given, env={"COLUMNS": "300"})
    assert result.exit_code == 0, result.output
    assert "2 checkpoints, steps 0 to 10" in result.output
    assert "1 series already done: nothing to do" in result.output
    assert f"Audit of {folder}" in result.output and "of type int64" in result.output
    assert f'specdyn.open("{store.cube(NAME)}")' in result.output
    assert tree(store.url) == before


def test_other_commands_know_the_series_by_its_name(store: Store, tmp_path: Path) -> None:
    def said(*arguments: str, code: int = 0) -> str:
        result = CliRunner().invoke(app, [*arguments, "--store", store.url], env={"COLUMNS": "300"})
        assert result.exit_code == code, result.output
        return " ".join(result.output.split())

    assert f"{NAME} series - - 1 {store.cube(NAME)}" in said("list", "studies")
    assert "1 series analysed at 2 steps" in said("status", NAME)
    assert "figures 2 figures, each as PNG and SVG" in said(
        "report", NAME, "--figures", "--out", str(tmp_path / "report")
    )
    assert (tmp_path / "report" / "singular_values.png").is_file()
    assert "no effective ranks; analyse it with effective_rank" in said("compare", NAME, code=2)
    for command in ("status", "report", "compare"):
        assert f"it has: {NAME}" in said(command, "nosuch", code=2)


def test_an_error_among_the_findings_names_place_step_and_tensor(folder: Path) -> None:
    finding = Finding(
        severity="error", steps=(10,), tensor="up.weight", what="3 entries are NaN", advice="leave it out"
    )
    (source,) = seen(folder).sources
    require_sound([dataclasses.replace(source, findings=(dataclasses.replace(finding, severity="warning"),))])
    with pytest.raises(AuditFailed, match=f"{folder} step 10 up.weight: 3 entries are NaN; leave it out"):
        require_sound([source, dataclasses.replace(source, findings=(finding,))])


def test_a_series_without_findings_is_audited_once(folder: Path, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """An audit reads every tensor."""
    audited: list[str] = []

    def sound(found: ForeignSeries, _: object) -> tuple[Finding, ...]:
        audited.append(found.name)
        return ()

    monkeypatch.setattr(series, "audit", sound)
    asked = seen(folder).checked(store, asks=True)
    assert audited == []
    study = asked.checked(store)
    outcome = outcome_of(study, Outcome(name=NAME, store=store.url), study.results(store), report=False, built=False)
    assert audited == [str(folder)] and outcome.audit == {str(folder): []}
