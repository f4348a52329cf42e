"""Analyses and cubes belong to the weights that they were computed from, whatever a run is trained to again."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from helpers.analysed import NAME, SETTINGS, analyse, sweep_called, train
from specdyn.models.spec.run_spec import RunSpec
from specdyn.models.spec.start import StartFrom
from specdyn.storage.checkpoints import (
    DamagedCheckpoint,
    read_finished,
    read_manifest,
    read_state,
    write_checkpoint,
    write_manifest,
)
from specdyn.storage.places import Store
from specdyn.storage.query import open_results
from specdyn.tasks.connect.line import measure_end
from specdyn.tasks.identity import results_id
from specdyn.tasks.plan.cells import Cell
from specdyn.tasks.plan.gathering import gather
from specdyn.tasks.plan.sweep_cube import SweepCube
from specdyn.tasks.plan.sweeps import Sweep, make_sweep
from specdyn.tasks.spectra.network_layout import network_layout
from specdyn.tasks.training import training


def flip(spec: RunSpec, store: Store, step: int) -> None:
    """Damage a checkpoint on the disk."""
    path = Path(store.run(NAME, spec.run_id).checkpoint(step))
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


def trained_elsewhere(spec: RunSpec, store: Store) -> dict[int, dict[str, Tensor]]:
    """Have the run's checkpoints differ in every bit that matters, as another kind of machine leaves them."""
    manifest = read_manifest(store.run(NAME, spec.run_id))
    assert manifest is not None
    weights = {
        step: {name: w * 1.5 for name, w in read_finished(store, manifest, step).items()} for step in manifest.steps
    }
    entries = tuple(write_checkpoint(store.run(NAME, spec.run_id), step, weights[step]) for step in manifest.steps)
    write_manifest(store, dataclasses.replace(manifest, status="complete", reason="", checkpoints=entries))
    return weights


def stored_spectrum(store: Store, sweep: Sweep, spec: RunSpec, layer: str, step: int) -> np.ndarray:
    cube = open_results(store.cube(sweep.name))["layers"].to_dataset()
    found = cube["singular_value"].sel(run=spec.run_id, layer=layer, step=step).values
    return np.asarray(found[~np.isnan(found)])


def cell_of(sweep: Sweep, store: str) -> Cell:
    """What the store has of the first run of a sweep."""
    return sweep.cells(Store(store))[0]


def test_a_run_found_damaged_by_a_line_keeps_its_analyses_where_it_is_trained_to_the_same_bits(tmp_path: Path) -> None:
    store, sweep = str(tmp_path), sweep_called("decay", 1.0)
    (spec,) = sweep.specs
    analyse(sweep, store)
    assert cell_of(sweep, store).state == "done" and gather(sweep, Store(store), report=False)[1]
    flip(spec, Store(store), 20)
    with pytest.raises(DamagedCheckpoint):
        measure_end(spec, spec, Store(store))
    assert cell_of(sweep, store).state == "damaged"
    train(spec, store)
    assert cell_of(sweep, store).state == "done"
    assert not gather(sweep, Store(store), report=False)[1]


def test_analyses_of_a_run_trained_to_other_weights_are_missing_and_so_is_every_cube_that_has_the_run(
    tmp_path: Path,
) -> None:
    store, one, other = str(tmp_path), sweep_called("one", 1.0), sweep_called("other", 1.0, 0.5)
    spec = one.specs[0]
    for sweep in (one, other):
        analyse(sweep, store)
        assert gather(sweep, Store(store), report=False)[1] and not gather(sweep, Store(store), report=False)[1]
    first = results_id(train(spec, store))
    weights = trained_elsewhere(spec, Store(store))
    cell = cell_of(one, store)
    assert (cell.state, list(cell.missing)) == ("trained", [(0,), (10,), (20,)])
    assert cell.results != first
    analyse(one, store)
    layer = network_layout(spec).layers[0].parameter
    expected = np.linalg.svd(weights[20][layer].double().numpy(), compute_uv=False)
    for sweep in (one, other):
        assert gather(sweep, Store(store), report=False)[1], "a cube that shares the run is old too"
        np.testing.assert_allclose(stored_spectrum(Store(store), sweep, spec, layer, 20), expected, rtol=1e-5)


def test_a_report_is_drawn_again_where_a_call_died_after_its_cube(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, folder = str(tmp_path), Store(str(tmp_path)).report("decay")
    analyse(sweep := sweep_called("decay", 1.0), store)
    assert gather(sweep, Store(store), report=True)[1]
    page, before = Path(folder) / "index.html", (Path(folder) / "index.html").stat().st_mtime_ns
    analyse(sweep := sweep_called("decay", 1.0, 0.5), store)

    def dies(_: SweepCube) -> None:
        raise InterruptedError

    with monkeypatch.context() as patch:
        patch.setattr(SweepCube, "draw", dies)
        with pytest.raises(InterruptedError):
            gather(sweep, Store(store), report=True)
    assert page.stat().st_mtime_ns == before
    assert not gather(sweep, Store(store), report=True)[1], "the cube stands"
    assert page.stat().st_mtime_ns > before
    assert sweep.results(Store(store)).contents in (Path(folder) / "drawn.json").read_text()
    before = page.stat().st_mtime_ns
    gather(sweep, Store(store), report=True)
    assert page.stat().st_mtime_ns == before


def test_weights_that_come_back_find_their_own_analyses_again(tmp_path: Path) -> None:
    store, sweep = str(tmp_path), sweep_called("decay", 1.0)
    (spec,) = sweep.specs
    analyse(sweep, store)
    manifest = train(spec, store)
    layer = network_layout(spec).layers[0].parameter
    own = read_finished(Store(store), manifest, 20)
    trained_elsewhere(spec, Store(store))
    analyse(sweep, store)
    assert gather(sweep, Store(store), report=False)[1]
    flip(spec, Store(store), 10)
    found = read_manifest(Store(store).run(NAME, spec.run_id))
    assert found is not None
    with pytest.raises(DamagedCheckpoint):
        read_finished(Store(store), found, 10)
    assert train(spec, store).digest == manifest.digest
    assert cell_of(sweep, store).state == "done" and gather(sweep, Store(store), report=False)[1]
    expected = np.linalg.svd(own[layer].double().numpy(), compute_uv=False)
    np.testing.assert_allclose(stored_spectrum(Store(store), sweep, spec, layer, 20), expected, rtol=1e-5)


def test_a_branch_is_trained_again_where_its_trunk_has_other_weights(tmp_path: Path) -> None:
    store, trunk = str(tmp_path), sweep_called("decay", 1.0).specs[0]
    branch = dataclasses.replace(trunk, start=StartFrom(run_id=trunk.run_id, step=10, order=5))
    train(trunk, store, (10,))
    before = train(branch, store)
    assert before.origins == {trunk.run_id: train(trunk, store).digest}
    assert train(branch, store) == before
    weights = trained_elsewhere(trunk, Store(store))
    after = train(branch, store)
    assert after.digest != before.digest
    began = read_finished(Store(store), after, 10)
    assert all(torch.equal(began[name], w) for name, w in weights[10].items())


def test_a_half_trained_branch_does_not_go_on_from_a_trunk_that_is_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, trunk = str(tmp_path), sweep_called("decay", 1.0).specs[0]
    branch = dataclasses.replace(trunk, start=StartFrom(run_id=trunk.run_id, step=10, order=5))
    train(trunk, store, (10,))
    with monkeypatch.context() as patch:

        def killed(*_: object) -> Tensor:
            raise InterruptedError

        patch.setattr(training.Loop, "run", killed)
        with pytest.raises(InterruptedError):
            train(branch, store)
    state = read_state(Store(store).run(NAME, branch.run_id))
    assert state is not None and state[1]["step"] == 10
    weights = trained_elsewhere(trunk, Store(store))
    began = read_finished(Store(store), train(branch, store), 10)
    assert all(torch.equal(began[name], w) for name, w in weights[10].items())


def test_a_run_that_follows_the_norms_of_another_is_trained_again_where_those_change(tmp_path: Path) -> None:
    store, first = str(tmp_path), sweep_called("decay", 1.0).specs[0]
    train(first, store)
    sweep = make_sweep(NAME, "smoke", [0.5], [0], "held", ["spectrum"], settings={**SETTINGS, "norm_run": first.run_id})
    (spec,) = sweep.specs
    analyse(sweep, store)
    before = train(spec, store)
    assert cell_of(sweep, store).state == "done"
    trained_elsewhere(first, Store(store))
    cell = cell_of(sweep, store)
    assert cell.state == "damaged"
    assert (
        cell.reason == f"run {first.run_id}, which it started from or follows, was retrained and has different weights"
    )
    assert train(spec, store).digest != before.digest
