"""The paper's modular addition, trained whole, its checkpoints analysed as the paper does."""

import dataclasses
import math
import tempfile
import time

import numpy as np
import torch

from specdyn.models.experiments.base import get_experiment
from specdyn.models.spec.run_spec import RunSpec
from specdyn.models.spec.settings import with_settings
from specdyn.storage.places import Store
from specdyn.tasks.analyses.effective_rank import effective_ranks
from specdyn.tasks.evaluation.examples import load_examples
from specdyn.tasks.spectra.network_layout import network_layout
from specdyn.tasks.spectra.one_pass import decompose_step
from specdyn.tasks.spectra.series import RunSeries
from specdyn.tasks.training.numerics import numerics
from specdyn.tasks.training.training import Loop, train
from tests.benchmarks.analysis import EVALUATED, PUBLISHED, our_pass
from tests.benchmarks.gpu.machine import Budget, Keep, Table, forget_peak, no_need, peak, seconds

HEADINGS = (
    *("weight decay", "steps", "checkpoints", "training, s", "steps/s", "analysed", "ms per checkpoint"),
    *("validation error, %", "first step below 5 %", "effective rank, start", "end", "peak memory"),
)
PROBED = 200
"""Steps that are timed to see how many fit."""
TRAINING_SHARE = 0.6
"""Share of the time that training may take; the rest is for the analysis."""
GROKKED = 0.05
LOOKED_AT = 40
"""Checkpoints whose validation error is looked at."""


def measure(device: torch.device, short: bool, budget: Budget, keep: Keep = no_need, *, weight_decay: float) -> Table:
    """One row. A run that does not fit the time is trained for as many steps as do."""
    table = Table(title=f"Modular addition of the paper, weight decay {weight_decay:g}", headings=HEADINGS)
    preset = get_experiment("modular_addition").preset("smoke" if short else "paper").spec
    spec = with_settings(preset, weight_decay=weight_decay, seed=0)
    if (fitting := steps_that_fit(spec, device, budget, short)) < spec.steps:
        table.left_out.append(f"the steps from {fitting:,} to {spec.steps:,}, for lack of time")
        spec = dataclasses.replace(spec, steps=fitting)
    with tempfile.TemporaryDirectory() as folder:
        store = Store(folder)
        forget_peak(device)
        trained, manifest = seconds(lambda: train(spec, store, device=device), device)
        if manifest.status != "complete":
            table.left_out.append(f"what follows the end of the training, which {manifest.status}: {manifest.reason}")
        made = manifest.steps[-1]
        names = (*PUBLISHED, *EVALUATED)
        since = time.monotonic()
        # A tenth of the time stays for what follows.
        analysed = our_pass(spec, store, manifest, names, lambda: budget.left < 0.1 * budget.seconds)
        each = (time.monotonic() - since) / analysed if analysed else math.nan
        if analysed < len(manifest.steps):
            table.left_out.append(f"the analysis of {len(manifest.steps) - analysed} checkpoints, for lack of time")
        series = RunSeries(store=store, manifest=manifest)
        errors = validation_errors(series)
        ranks = [mean_rank(series, spec, step) for step in (manifest.steps[0], made)]
        grokked = next((f"{step:,}" for step, error in errors.items() if error < GROKKED), "never")
    table.rows.append(
        (
            *(f"{weight_decay:g}", f"{made:,}", str(len(manifest.steps)), f"{trained:.1f}", f"{made / trained:.0f}"),
            *(str(analysed), f"{1000 * each:.0f}", f"{100 * errors[made]:.1f}", grokked),
            *(f"{rank:.3f}" for rank in ranks),
            peak(device),
        )
    )
    keep(table)
    return table


def steps_that_fit(spec: RunSpec, device: torch.device, budget: Budget, short: bool) -> int:
    """Steps of the run that fit its share of the time, a multiple of the checkpoints' distance, at least one."""
    if short:
        return spec.steps
    experiment = get_experiment(spec.experiment)
    net = experiment.net(spec).to(device).train()
    loop = Loop(experiment, spec, net, load_examples(spec, Store(""))["train"].to(device))
    with numerics(spec, device):
        loop.run(0, 3)
        taken, _ = seconds(lambda: loop.run(3, 3 + PROBED), device)
    fitting = int(TRAINING_SHARE * budget.left / (taken / PROBED))
    return min(spec.steps, max(1, fitting // spec.record.checkpoint_every) * spec.record.checkpoint_every)


def validation_errors(series: RunSeries) -> dict[int, float]:
    """Validation error of checkpoints spread evenly over the run, the last among them."""
    evaluate = series.evaluator()
    distance = max(1, len(series.steps) // LOOKED_AT)
    steps = sorted({*series.steps[::distance], series.steps[-1]})
    return {step: float(evaluate(series.weights(step))["err"][1]) for step in steps}


def mean_rank(series: RunSeries, spec: RunSpec, step: int) -> float:
    """Effective rank / rank, the mean over layers."""
    body = network_layout(spec)
    factors = decompose_step(series, body, step, vectors=False)[1]
    return float(np.mean([effective_ranks(factors[layer.name].s.numpy())[0] for layer in body.layers]))
