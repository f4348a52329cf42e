"""Recordings of one's own loop under `specdyn analyse`: the page's program, numbers, a folder and S3."""

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from helpers.pipelines import ROOT, at_server, call
from helpers.recorded import SETTINGS, Loop, weights_at
from specdyn.flows.outcome import Outcome
from specdyn.storage.places import Store
from specdyn.storage.query import open_results
from specdyn.tasks.recording.recorder import Recorder

pytestmark = [pytest.mark.integration, pytest.mark.usefixtures("prefect_server")]

PAGE = (ROOT / "docs" / "recording.md").read_text()
LAYERS = ["0.weight", "4.weight", "5.weight"]


def analyse(source: str, store: Store, **parameters: object) -> Outcome:
    from specdyn.flows.analyse import analyse_checkpoints

    outcome: Outcome = analyse_checkpoints(
        sources=[source], store=str(store), executor="inline", report=False, **parameters
    )
    return outcome


def test_the_program_of_the_page_ends_with_figures(tmp_path: Path) -> None:
    program = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)[0]
    assert len(program.splitlines()) < 20
    path = os.pathsep.join([str(ROOT), *sys.path])
    subprocess.run([sys.executable, "-c", program], cwd=tmp_path, env={**os.environ, "PYTHONPATH": path}, check=True)
    (line,) = re.findall(r"^specdyn (analyse .*)$", PAGE, re.MULTILINE)
    words = [str(tmp_path / word) if word.startswith("results/") else word for word in line.split()]
    done = call(*words, "--store", str(tmp_path / "results"), env=at_server())
    assert done.returncode == 0, done.stderr
    assert "11 checkpoints, steps 0 to 500" in done.stderr
    report = tmp_path / "results/reports/my-run"
    assert {path.name for path in report.iterdir()} == {"index.html", "drawn.json", "summary.json"}
    tree = xr.open_datatree(tmp_path / "results/studies/my-run/results.zarr", engine="zarr")
    ranks = tree["layers"].to_dataset().effective_rank.isel(run=0)
    assert ranks.step.values.tolist() == list(range(0, 501, 50))
    assert np.isfinite(ranks).all() and (ranks.isel(step=-1) != ranks.isel(step=0)).all()


@pytest.mark.parametrize("kind", ["local_store", "s3_store"])
def test_what_is_analysed_of_a_recording_is_what_numpy_says_of_the_weights(
    kind: str, request: pytest.FixtureRequest
) -> None:
    store: Store = request.getfixturevalue(kind)
    loop = Loop()
    with Recorder(str(store), "run", every=10, settings=SETTINGS) as recorder:
        recorder.step(0, loop.net)
        loop.run(25, lambda step, model, loss: recorder.step(step, model, train_loss=loss))
    assert recorder.errors == []
    outcome = analyse(store.recording("run").folder, store, name="own", analyses=["spectrum", "effective_rank"])
    layers = open_results(outcome.cube)["layers"].to_dataset().isel(run=0)
    assert layers.step.values.tolist() == [0, 10, 20, 25]
    assert sorted(layers.layer.values.tolist()) == LAYERS
    for step in (0, 10, 20, 25):
        for name in LAYERS:
            s = np.linalg.svd(weights_at(step)[name].double().numpy(), compute_uv=False)
            found = layers.singular_value.sel(layer=name, step=step).values[: len(s)]
            np.testing.assert_allclose(found, s, rtol=0, atol=1.1e-6 * s[0])


def test_spectra_match_an_analysis_of_the_checkpoints(local_store: Store) -> None:
    for name, keep in (("weights", "checkpoints"), ("values", "spectra")):
        loop = Loop()
        with Recorder(str(local_store), name, every=10, keep=keep) as recorder:  # type: ignore[arg-type]
            loop.run(25, lambda step, model, loss, to=recorder: to.step(step, model))  # type: ignore[misc]
        assert recorder.errors == []
    outcome = analyse(local_store.recording("weights").folder, local_store, name="own")
    expected = open_results(outcome.cube)["layers"].to_dataset().isel(run=0).load()
    found = xr.open_dataset(local_store.recording("values").table).load()
    assert found.step.values.tolist() == expected.step.values.tolist() == [1, 10, 20, 25]
    for name in found.data_vars:
        want = expected[name].sel(layer=found.layer, step=found.step).transpose(*found[name].dims)
        want = want.isel(rank=slice(found.sizes["rank"])) if "rank" in want.dims else want
        np.testing.assert_allclose(found[name].values, want.values, rtol=3e-6, atol=3e-6)
        assert found[name].attrs["long_name"] == want.attrs["long_name"]


def test_settings_are_labels_and_metrics_are_variables_of_the_cube(local_store: Store) -> None:
    losses: dict[float, list[float]] = {}
    for decay in (0.0, 1.0):
        loop = Loop()
        loop.optimizer.param_groups[0]["weight_decay"] = decay
        settings = {"weight_decay": decay, "seed": 0, "net": {"width": 24}}
        with Recorder(str(local_store), f"wd{decay:g}", every=10, settings=settings) as recorder:
            recorder.step(0, loop.net, val_err=1.0)
            losses[decay] = loop.run(
                25,
                lambda step, model, loss, to=recorder: to.step(  # type: ignore[misc]
                    step, model, train_loss=loss, val_err=1.0 if step < 20 else 0.0
                ),
            )
        assert recorder.errors == []
    from specdyn.flows.analyse import analyse_checkpoints

    outcome = analyse_checkpoints(
        sources=[local_store.recording(f"wd{decay:g}").folder for decay in (0.0, 1.0)],
        name="both",
        analyses=["norms"],
        store=str(local_store),
        executor="inline",
        report=False,
    )
    metrics = open_results(outcome.cube)["metrics"].to_dataset()
    for decay in (0.0, 1.0):
        run = metrics.isel(run=int(np.flatnonzero(metrics.weight_decay.values == decay)[0]))
        expected = [np.nan, *(losses[decay][step - 1] for step in (10, 20, 25))]
        np.testing.assert_array_equal(run.loss.sel(split="train").values, np.array(expected))
        assert float(run.grok_step) == 20
        assert int(run.seed) == 0
