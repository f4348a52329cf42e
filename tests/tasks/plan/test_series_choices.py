"""What `specdyn analyse` says of series that are not plain: damaged, of other units, with several things to choose."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from typer.testing import CliRunner

from specdyn.flows.cli.app import app
from specdyn.flows.parameters import AnalyseParameters
from specdyn.flows.studies import series_from
from specdyn.storage.places import Store
from specdyn.tasks.plan.gathering import gather
from specdyn.tasks.plan.here import ThisProcess
from specdyn.tasks.plan.series import SeriesStudy, analyse_series
from specdyn.tasks.plan.sources import AuditFailed

STEPS = (0, 10, 20, 30)


def save(folder: Path, *steps: int) -> Path:
    folder.mkdir(exist_ok=True)
    for step in steps:
        draw = torch.Generator().manual_seed(step)
        save_file({"up.weight": torch.randn(6, 4, generator=draw)}, folder / f"step={step}.safetensors")
    return folder


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-8])


def emptied(file: Path) -> None:
    file.write_bytes(b"")


def text(file: Path) -> None:
    file.write_text("not a checkpoint\n")


def run(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["analyse", *arguments], env={"COLUMNS": "400"})
    assert result.exception is None or isinstance(result.exception, SystemExit), "no traceback"
    assert "Traceback" not in result.output
    return result.exit_code, " ".join(result.output.split())


@pytest.mark.parametrize("damage", [cut, emptied, text])
@pytest.mark.parametrize("step", [0, 20, 30])
def test_a_damaged_checkpoint_is_an_error_in_one_line_or_is_left_out(
    damage: Callable[[Path], None], step: int, tmp_path: Path
) -> None:
    folder, store = save(tmp_path / "series", *STEPS), Store(str(tmp_path / "store"))
    damage(folder / f"step={step}.safetensors")
    asked = AnalyseParameters(sources=[str(folder)], store=store.url, analyses=["spectrum"], name="theirs")
    with pytest.raises(AuditFailed, match=rf"step {step} : .*step={step}\.safetensors: .*--skip-damaged"):
        series_from(asked).checked(store)
    left_out = AnalyseParameters(
        sources=[str(folder)], store=store.url, analyses=["spectrum"], name="theirs", skip_damaged=True
    )
    study = series_from(left_out).checked(store)
    assert isinstance(study, SeriesStudy)
    (source,) = study.sources
    assert source.series.steps == tuple(s for s in STEPS if s != step)
    assert source.findings and source.findings[0].cells[:2] == ("warning", str(step))
    analyse_series(ThisProcess(), lambda _: None, source, ("spectrum",), store)
    study.record(store)
    results, _ = gather(study, store, report=False)
    assert results.complete


def test_where_all_are_damaged_the_first_reason_is_said(tmp_path: Path) -> None:
    folder = save(tmp_path / "series", 0, 10)
    for step in (0, 10):
        emptied(folder / f"step={step}.safetensors")
    for option in ("--skip-damaged", "--no-audit", "--no-report"):
        code, said = run(str(folder), "--store", str(tmp_path / "store"), option)
        assert code == 2 and "step=0.safetensors: not a safetensors file: its header would have 0 bytes" in said


def test_skipping_needs_an_audit(tmp_path: Path) -> None:
    folder = save(tmp_path / "series", 0)
    code, said = run(str(folder), "--store", str(tmp_path / "store"), "--skip-damaged", "--no-audit")
    assert code == 2 and "--skip-damaged True is not allowed: expected an audit, so not --no-audit" in said


def test_series_of_other_units_are_not_put_on_one_axis(tmp_path: Path) -> None:
    steps, epochs = save(tmp_path / "steps", 0, 10), tmp_path / "epochs"
    epochs.mkdir()
    for epoch in (1, 2):
        torch.save({"up.weight": torch.randn(6, 4)}, epochs / f"epoch_{epoch}.pt")
    code, said = run(str(steps), str(epochs), "--store", str(tmp_path / "store"))
    assert code == 2 and f"{steps} counts steps and {epochs} epochs: analyse them under separate names" in said
    asked = AnalyseParameters(sources=[str(steps), str(epochs)], steps_per_epoch=100)
    assert [source.series.steps for source in series_from(asked).sources] == [(0, 10), (100, 200)]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--key", "nosuch"], "no state dict under key='nosuch'; state dicts in this file: left, right"),
        ([], "several candidate state dicts; state dicts in this file: left, right: choose one with `--key`"),
        (["--pattern", "("], "is not a regular expression"),
        (["--revisions", "step*"], "--revisions 'step*' belongs to hf://organisation/name without a revision"),
    ],
)
def test_what_cannot_be_chosen_is_said_without_a_traceback(arguments: list[str], said: str, tmp_path: Path) -> None:
    for step in (1, 2):
        states = {name: {"w": torch.ones(3, 3)} for name in ("left", "right")}
        torch.save(states, tmp_path / f"step_{step}.pt")
    code, output = run(str(tmp_path), "--store", str(tmp_path / "store"), *arguments)
    assert code == 2 and said in output


def test_the_unit_is_in_the_cube_and_on_its_axis(tmp_path: Path) -> None:
    import xarray as xr

    for epoch in (1, 2):
        torch.save({"up.weight": torch.randn(6, 4)}, tmp_path / f"epoch_{epoch}.pt")
    store = Store(str(tmp_path / "store"))
    study = series_from(AnalyseParameters(sources=[str(tmp_path)], analyses=["spectrum"], name="theirs"))
    analyse_series(ThisProcess(), lambda _: None, study.sources[0], ("spectrum",), store)
    gather(study, store, report=False)
    with xr.open_datatree(store.cube("theirs"), engine="zarr") as tree:
        assert tree.attrs["unit"] == "epochs"
        assert tree["layers"].step.attrs["long_name"] == "epochs"
