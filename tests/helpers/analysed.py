"""Trains and analyses small sweeps in this process, without Prefect or Ray."""

import torch

from specdyn.models.spec.run_spec import RunSpec
from specdyn.storage.checkpoints import Manifest
from specdyn.storage.places import Store
from specdyn.tasks.plan.here import ThisProcess
from specdyn.tasks.plan.runs import analyse_run
from specdyn.tasks.plan.sweeps import Sweep, make_sweep
from specdyn.tasks.training import training

NAME = "modular_addition"
SETTINGS = {"steps": 20, "checkpoint_every": 10}


def train(spec: RunSpec, store: str, keep: tuple[int, ...] = ()) -> Manifest:
    """Train a run on the CPU."""
    return training.train(spec, Store(store), keep, torch.device("cpu"))


def sweep_called(name: str, *weight_decays: float, analyses: tuple[str, ...] = ("spectrum",)) -> Sweep:
    """A sweep of runs with three checkpoints, analysed for their spectrum."""
    return make_sweep(NAME, "smoke", list(weight_decays), [0], name, analyses, settings=SETTINGS)


def analyse(sweep: Sweep, store: str) -> None:
    """Train and analyse what a sweep lacks."""
    sweep.record(Store(store))
    for spec in sweep.specs:
        train(spec, store)
        analyse_run(ThisProcess(), lambda _: None, spec, sweep.analyses, Store(store), sweep.cube(Store(store)))
