"""`specdyn analyse` on checkpoints in a folder and on S3: numbers, requests, resumption, refusals."""

import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import xarray as xr
from safetensors.torch import save_file

from helpers.pipelines import at_server, call, files
from specdyn.flows.outcome import Outcome
from specdyn.models.experiments.base import get_experiment
from specdyn.models.spec.settings import with_settings
from specdyn.storage.access import objects
from specdyn.storage.checkpoints import read_checkpoint
from specdyn.storage.foreign import safe as foreign_weights
from specdyn.storage.places import Store
from specdyn.storage.query import open_results
from specdyn.tasks.foreign.network.layout import Look
from specdyn.tasks.plan.series import cube_name
from specdyn.tasks.training.training import train

pytestmark = [pytest.mark.integration, pytest.mark.usefixtures("prefect_server")]

SPEC = with_settings(get_experiment("modular_addition").preset("smoke").spec, steps=50, checkpoint_every=10)
STEPS = (0, 10, 20, 30, 40, 50)
LAYERS = 6


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of files of `torch.save`, as any training script leaves them."""
    store, folder = tmp_path_factory.mktemp("store"), tmp_path_factory.mktemp("theirs") / "run-a"
    folder.mkdir()
    manifest = train(SPEC, Store(str(store)), device=torch.device("cpu"))
    for entry in manifest.checkpoints:
        weights = read_checkpoint(Store(str(store)).run_of(SPEC), entry)
        torch.save({"epoch": 1, "model_state_dict": weights}, folder / f"checkpoint-{entry.step}.pt")
    return folder


def analyse(*sources: Any, store: Any, **parameters: Any) -> Outcome:
    from specdyn.flows.analyse import analyse_checkpoints

    given = {"sources": [str(s) for s in sources], "store": str(store), "executor": "inline", "report": False}
    outcome: Outcome = analyse_checkpoints(**{**given, **parameters})
    return outcome


def weights_of(folder: Path, step: int) -> dict[str, torch.Tensor]:
    return dict(torch.load(folder / f"checkpoint-{step}.pt", weights_only=True)["model_state_dict"])


def test_the_command_makes_the_cube_of_a_run_with_figures(trained: Path, tmp_path: Path) -> None:
    given = ("analyse", str(trained), "--heads", "4", "--store", str(tmp_path / "store"))
    done = call(*given, env=at_server())
    assert done.returncode == 0, done.stderr
    assert "6 checkpoints, steps 0 to 50" in done.stderr
    assert f"Audit of {trained}: nothing unusual" in done.stdout.replace("\n", "")
    title = cube_name(None, [str(trained)], how=Look(heads=4))
    assert title.startswith("run-a-heads=4-")
    tree = xr.open_datatree(tmp_path / f"store/studies/{title}/results.zarr", engine="zarr")
    layers = tree["layers"].to_dataset().isel(run=0)
    for step in STEPS:
        weights, final = weights_of(trained, step), weights_of(trained, 50)
        for name, w in weights.items():
            if w.ndim < 2 or name.endswith("in_proj_weight"):  # which is cut in three
                continue
            u, s, vh = np.linalg.svd(w.double().numpy(), full_matrices=False)
            found = layers.singular_value.sel(layer=name, step=step).values
            np.testing.assert_allclose(found[: len(s)], s, rtol=0, atol=1.1e-6 * s[0])  # 1e-6 and rounding
            uf, _, vf = np.linalg.svd(final[name].double().numpy(), full_matrices=False)
            agreement = np.abs((u.T @ uf) * (vh @ vf.T)).diagonal()[:10].mean()
            assert float(layers.agreement_score.sel(layer=name, step=step)) == pytest.approx(agreement, abs=2e-3)
    assert tree["runs"].source.values.tolist() == [str(trained)]
    heads = tree["attention"].to_dataset()
    assert heads.head_alignment.sizes["head"] == 4
    assert (tmp_path / f"store/reports/{title}/index.html").is_file()
    # The factors are kept for checkpoints to come, and a second call does nothing.
    (kept,) = (tmp_path / "store").glob("scratch/*")
    assert len(list(kept.iterdir())) == len(STEPS)
    before = files(tmp_path / "store")
    again = call(*given, env=at_server())
    assert again.returncode == 0, again.stderr
    assert files(tmp_path / "store") == before


def test_only_missing_blocks_are_analysed_again_with_the_same_numbers(trained: Path, tmp_path: Path) -> None:
    first = analyse(trained, store=tmp_path, analyses=["spectrum", "agreement_previous"])
    before = files(tmp_path / "results")
    parts = list((tmp_path / "results/runs/foreign").glob("*/00000020-00000020-*.safetensors"))
    assert len(parts) == 2, "what is of the checkpoint alone, and what compares it with the one before"
    for part in parts:
        part.unlink()
    shutil.rmtree(tmp_path / "scratch")
    again = analyse(trained, store=tmp_path, analyses=["spectrum", "agreement_previous"])
    assert (first.rebuilt, again.rebuilt, again.cube, again.audit) == (True, True, first.cube, first.audit)
    assert 0 < again.work.decompositions < first.work.decompositions
    assert files(tmp_path / "results") == before


def test_several_series_share_a_cube(trained: Path, tmp_path: Path) -> None:
    other = tmp_path / "run-b"
    other.mkdir()
    for step in STEPS[:3]:
        save_file({k: 2 * v for k, v in weights_of(trained, step).items()}, other / f"step={step}.safetensors")
    analyse(trained, other, store=tmp_path / "store", name="both", analyses=["norms"])
    layers = open_results(Store(str(tmp_path / "store")).cube("both"))["layers"].to_dataset()
    assert sorted(layers.series.values) == ["run-a", "run-b"]
    norms = layers.frobenius_norm.set_index(run="series")
    np.testing.assert_allclose(norms.sel(run="run-b", step=20), 2 * norms.sel(run="run-a", step=20), rtol=1e-6)
    assert np.isnan(norms.sel(run="run-b", step=50)).all()


def test_other_options_on_the_same_series_never_give_old_values(tmp_path: Path) -> None:
    folder, kernels = tmp_path / "conv", torch.randn(8, 16, 2, 2, generator=torch.Generator().manual_seed(0))
    folder.mkdir()
    for step in (0, 10):
        save_file({"up.weight": kernels * (1 + step)}, folder / f"step={step}.safetensors")

    def measured(analyses: list[str], **options: Any) -> xr.Dataset:
        analyse(folder, store=tmp_path / "store", name="one", analyses=analyses, **options)
        return (
            open_results(Store(str(tmp_path / "store")).cube("one"))["layers"].to_dataset().load().isel(run=0, layer=0)
        )

    plain, swapped = kernels.flatten(1).double().numpy(), kernels.transpose(0, 1).flatten(1).double().numpy()
    found = measured(["spectrum"])
    np.testing.assert_allclose(found.singular_value.sel(step=10), 11 * np.linalg.svd(plain)[1], rtol=1e-5)
    found = measured(["spectrum", "norms"], transposed="^up")
    assert (int(found["rows"]), int(found["columns"])) == swapped.shape
    values = np.linalg.svd(swapped)[1]
    np.testing.assert_allclose(found.singular_value.sel(step=10), 11 * values, rtol=1e-5)
    np.testing.assert_allclose(found.spectral_norm.sel(step=10), 11 * values[0], rtol=1e-5)
    found = measured(["spectrum"])
    np.testing.assert_allclose(found.singular_value.sel(step=10), 11 * np.linalg.svd(plain)[1], rtol=1e-5)


def test_a_series_with_nan_is_refused_before_anything_is_written(trained: Path, tmp_path: Path) -> None:
    bad = tmp_path / "bad"
    bad.mkdir()
    for step in (0, 10):
        weights = weights_of(trained, step)
        if step:
            weights["decoder.weight"][0, 0] = float("nan")
        save_file(weights, bad / f"step={step}.safetensors")
    done = call("analyse", str(bad), "--store", str(tmp_path / "store"), "--no-report", env=at_server())
    assert done.returncode == 2
    assert "step 10 decoder.weight: 1 of 448 entries are NaN or infinite" in done.stderr.replace("\n", "")
    assert not (tmp_path / "store/runs").exists()


def test_analyses_that_need_data_are_refused(trained: Path, tmp_path: Path) -> None:
    done = call("analyse", str(trained), "--store", str(tmp_path), "--analyses", "pruning", env=at_server())
    assert done.returncode == 2
    assert "--analyses 'pruning' is not allowed: expected analyses that need no data" in done.stderr.replace("\n", " ")


def test_every_tensor_is_read_once_a_checkpoint_by_a_range(trained: Path, tmp_path: Path) -> None:
    folder = tmp_path / "safe"
    folder.mkdir()
    for step in STEPS:
        save_file(weights_of(trained, step), folder / f"step={step}.safetensors")
    reads, sizes = Counter[str](), Counter[int]()
    real = objects.read_range

    def counted(url: str, start: int, end: int) -> bytes:
        reads["header" if start == 0 else "tensor"] += 1
        data = real(url, start, end)
        sizes[len(data) if start else 0] += 1
        return data

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(foreign_weights.objects, "read_range", counted)
        analyse(folder, store=tmp_path / "store", analyses=["spectrum", "agreement", "alignment"], audited=False)
    assert reads["tensor"] == LAYERS * len(STEPS)
    largest = max(w.numel() * 4 for w in weights_of(trained, 0).values())
    assert max(sizes) == largest


def test_checkpoints_on_s3_are_read_by_ranges_and_give_the_same_numbers(
    trained: Path, tmp_path: Path, s3_store: Store
) -> None:
    for step in STEPS:
        path = tmp_path / f"step={step}.safetensors"
        save_file(weights_of(trained, step), path)
        objects.write(f"{s3_store}/theirs/{path.name}", path.read_bytes())
    analyse(f"{s3_store}/theirs", store=f"{s3_store}/results", name="far", analyses=["spectrum", "updates"])
    analyse(trained, store=tmp_path / "near", name="near", analyses=["spectrum", "updates"])
    far = open_results(Store(f"{s3_store}/results").cube("far"))["layers"].to_dataset().load().isel(run=0)
    near = open_results(Store(str(tmp_path / "near")).cube("near"))["layers"].to_dataset().load().isel(run=0)
    for name in ("singular_value", "update_relative_norm"):
        xr.testing.assert_equal(
            far[name].sel(layer=near.layer).drop_vars(["run", "series"]),
            near[name].drop_vars(["run", "series"]),
        )
    assert objects.names(f"{s3_store}/results/results/runs/foreign") != []
