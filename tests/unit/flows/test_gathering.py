"""What of a sweep is in its cube, by what of it is analysed."""

import dataclasses
from collections.abc import Sequence

import numpy as np
import pytest
import torch

from flows.gathering import gather
from flows.planning import missing_blocks
from flows.sweep import Sweep
from models.experiment import get_experiment
from models.run_spec import RunSpec
from storage.layout import Layout
from storage.locations import delete
from storage.query import open_results
from storage.results import allocate, blocks_of, marker
from storage.sweeps import extend_sweep
from tasks.analysis import get_analysis
from tasks.anatomy import anatomy, run_layout
from tasks.one_pass import Target, analyse_block, anchor_steps, decompose_step, needed
from tasks.series import RunSeries
from tasks.training import train

ANALYSES = ("spectrum", "effective_rank", "performance", "trajectory", "shape")
SPEC = dataclasses.replace(get_experiment("modular_addition").preset("smoke").spec, steps=30, checkpoint_every=10)
STEPS = (0, 10, 20, 30)


def sweep_of(specs: Sequence[RunSpec]) -> Sweep:
    return Sweep(name="hand", experiment=SPEC.experiment, preset="smoke", specs=tuple(specs), analyses=ANALYSES)


def analyse(store: str, spec: RunSpec, sweep: Sweep) -> None:
    """Train a run, and analyse what its markers say is missing."""
    manifest = train(spec, store, device=torch.device("cpu"))
    where, body = Layout(store), anatomy(spec)
    metrics = get_experiment(spec.experiment).metrics(spec)
    target = Target(
        url=where.run_store(spec.experiment, spec.run_id),
        commits=where.commits(spec.experiment, spec.run_id),
        layout=run_layout(body, manifest.steps, ANALYSES, metrics, {"run_id": spec.run_id}),
    )
    allocate(target.url, target.layout)
    series, missing = RunSeries(store=store, manifest=manifest), missing_blocks(sweep, store, spec, manifest.steps)
    anchors = {step: decompose_step(series, body, step) for step in anchor_steps(manifest.steps, missing)}
    for block, names in missing.items():
        mine = [anchors[step] for step in needed(manifest.steps, block) if step in anchors]
        analyse_block(series, body, target, block, names, *mine)


def lose(store: str, spec: RunSpec, block: tuple[int, ...], names: Sequence[str] = ANALYSES) -> None:
    """Take the markers of a block away."""
    for name in names:
        commits = Layout(store).commits(spec.experiment, spec.run_id)
        delete(f"{commits}/{marker(name, get_analysis(name).version, block)}")


@pytest.fixture
def sweep(local_store: str) -> Sweep:
    """Two runs, trained and analysed."""
    chosen = sweep_of([SPEC, dataclasses.replace(SPEC, seed=1)])
    extend_sweep(local_store, chosen.record)
    for spec in chosen.specs:
        analyse(local_store, spec, chosen)
    return chosen


def test_a_run_stays_in_the_cube_with_what_is_known_of_it(local_store: str, sweep: Sweep) -> None:
    first, second = sweep.specs
    url, built = gather(sweep, local_store)
    assert built
    whole = {name: group.to_dataset().load() for name, group in open_results(url).children.items()}
    assert whole["layers"]["run"].values.tolist() == [first.run_id, second.run_id]
    assert gather(sweep, local_store) == (url, False)

    lose(local_store, first, (0,))
    lose(local_store, second, (30,), ["trajectory", "spectrum"])
    assert gather(sweep, local_store) == (url, True)
    part = {name: group.to_dataset().load() for name, group in open_results(url).children.items()}
    assert part["layers"]["run"].values.tolist() == [first.run_id, second.run_id]
    for name in ("singular_value", "effective_rank", "energy_rank"):
        gone = {"run": first.run_id, "step": 0}
        assert part["layers"][name].sel(gone).isnull().all()
        there = {"run": first.run_id, "step": [10, 20, 30]}
        np.testing.assert_array_equal(part["layers"][name].sel(there), whole["layers"][name].sel(there))
    assert part["metrics"]["loss"].sel(run=first.run_id, step=0).isnull().all()
    assert part["layers"]["singular_value"].sel(run=second.run_id, step=30).isnull().all()
    assert part["layers"]["effective_rank"].sel(run=second.run_id).notnull().all()
    assert part["layers"]["trajectory_coordinate"].sel(run=second.run_id).isnull().all()
    assert part["layers"]["trajectory_participation_ratio"].sel(run=second.run_id).isnull().all()
    assert part["layers"]["trajectory_participation_ratio"].sel(run=first.run_id).notnull().all()
    # Whether it grokked at its first checkpoint is not known any more.
    assert whole["metrics"]["grok_censored"].values.tolist() == [1, 1]
    np.testing.assert_array_equal(part["metrics"]["grok_censored"], [np.nan, 1])

    for spec in sweep.specs:
        analyse(local_store, spec, sweep)
    assert gather(sweep, local_store) == (url, True)
    for name, group in open_results(url).children.items():
        assert group.to_dataset().load().identical(whole[name])


def test_a_run_of_which_nothing_is_known_is_not_in_the_cube(local_store: str, sweep: Sweep) -> None:
    first, second = sweep.specs
    for block in blocks_of(STEPS):
        lose(local_store, first, block)
    url, _ = gather(sweep, local_store)
    assert open_results(url)["layers"]["run"].values.tolist() == [second.run_id]
    for block in blocks_of(STEPS):
        lose(local_store, second, block)
    assert gather(sweep, local_store) == (url, False)
