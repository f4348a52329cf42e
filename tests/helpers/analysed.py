"""Small sweeps trained and analysed in this process, without any engine."""

import torch

from specdyn.models.experiments.base import get_experiment
from specdyn.models.spec.run_spec import RunSpec
from specdyn.storage.checkpoints import Manifest
from specdyn.storage.places import Store
from specdyn.storage.results import allocate
from specdyn.storage.sweeps import extend_sweep
from specdyn.tasks.identity import results_id
from specdyn.tasks.plan.planning import missing_blocks
from specdyn.tasks.plan.sweeps import Sweep, make_sweep
from specdyn.tasks.spectra.network_layout import network_layout, run_layout
from specdyn.tasks.spectra.one_pass import Target, analyse_block, anchor_steps, decompose_step, needed
from specdyn.tasks.spectra.series import RunSeries
from specdyn.tasks.training import training

NAME = "modular_addition"
SETTINGS = {"steps": 20, "checkpoint_every": 10}


def train(spec: RunSpec, store: str, keep: tuple[int, ...] = ()) -> Manifest:
    """Train a run on the CPU."""
    return training.train(spec, Store(store), keep, torch.device("cpu"))


def sweep_called(name: str, *weight_decays: float, analyses: tuple[str, ...] = ("spectrum",)) -> Sweep:
    """A sweep of runs with three checkpoints, of which the spectrum is analysed."""
    return make_sweep(NAME, "smoke", list(weight_decays), [0], name, analyses, settings=SETTINGS)


def analyse(sweep: Sweep, store: str) -> None:
    """Train and analyse whatever a sweep lacks."""
    extend_sweep(Store(store), sweep.record)
    for spec in sweep.specs:
        manifest = train(spec, store)
        series, body, where = RunSeries(store=Store(store), manifest=manifest), network_layout(spec), store
        missing = missing_blocks(sweep, Store(store), manifest)
        target = Target(
            url=Store(where).run_store(NAME, results_id(manifest)),
            commits=Store(where).commits(NAME, results_id(manifest)),
            layout=run_layout(body, manifest.steps, sweep.analyses, get_experiment(NAME).metrics(spec), {}),
        )
        allocate(target.url, target.layout)
        anchors = {step: decompose_step(series, body, step) for step in anchor_steps(series.steps, missing)}
        for block, names in missing.items():
            given = (anchors[step] for step in needed(series.steps, block) if step in anchors)
            analyse_block(series, body, target, block, names, *given)
