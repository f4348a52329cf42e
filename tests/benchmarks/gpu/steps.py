"""Training steps a second of every experiment: as it is, in other ways to compute, and in the plainest PyTorch loop."""

import dataclasses
import math
import tempfile
from collections.abc import Callable
from typing import Any

import torch

from specdyn.models.datasets.base import get_dataset
from specdyn.models.datasets.decoders.examples import Examples
from specdyn.models.experiments.base import experiment_names, get_experiment
from specdyn.models.spec.run_spec import RunSpec
from specdyn.models.spec.settings import with_settings
from specdyn.storage.places import Store
from specdyn.tasks.data.prepare import require_data
from specdyn.tasks.evaluation.examples import load_examples
from specdyn.tasks.training.numerics import compiled, numerics
from specdyn.tasks.training.training import Loop
from tests.benchmarks.gpu.graphs import fits, graph_steps
from tests.benchmarks.gpu.machine import (
    Budget,
    Keep,
    Table,
    forget_peak,
    no_need,
    peak,
    reason,
    seconds,
    synchronise,
)
from tests.benchmarks.training import plain_steps

HEADINGS = (
    *("experiment", "parameters", "batch", "as it is, steps/s", "compiled", "TF32", "bfloat16", "CUDA graph"),
    *("plain loop", "ratio to plain", "peak memory"),
)
VARIANTS: dict[str, dict[str, Any]] = {
    "as it is": {},
    "compiled": {"compile": True},
    "TF32": {"tf32": True},
    "bfloat16": {"precision": "bfloat16"},
}
GRAPH = "CUDA graph"
PLAIN = "plain loop"
PAPERS_BATCH = {"image_classification": 128, "image_generation": 128}
"""Batches of the paper where the sample data has enough examples for them; else those of the preset."""
WARM_UP = 3
ROUND_SECONDS = 1.5
"""About how long one round of steps takes, where there is time."""


def measure(device: torch.device, short: bool, budget: Budget, keep: Keep = no_need) -> Table:
    """One row for each experiment with the paper's network, on sample data; with `short` the networks of `smoke`."""
    table = Table(title="Training steps per second", headings=HEADINGS)
    names = sorted(experiment_names(), key=lambda name: name != "modular_addition")
    with tempfile.TemporaryDirectory() as folder:
        store = Store(folder)
        for i, name in enumerate(names):
            own = budget.share(len(names) - i)
            if own.left < 1:
                table.left_out.append(f"{name}, for lack of time")
                continue
            spec = chosen(name, short)
            if needed := get_experiment(name).dataset(spec):
                require_data(store, get_dataset(*needed))
            data = load_examples(spec, store)["train"].to(device)
            table.rows.append(_row(spec, data, short, own, table.left_out))
            keep(table)
    return table


def chosen(name: str, short: bool) -> RunSpec:
    """What is trained: the paper's network, or that of `smoke`."""
    presets = get_experiment(name).presets
    preset = "smoke" if short else "paper-sample" if "paper-sample" in presets else "paper"
    spec = presets[preset].spec
    batch = spec.batch_size if short else PAPERS_BATCH.get(name, spec.batch_size)
    return dataclasses.replace(spec, batch_size=batch)


def _row(spec: RunSpec, data: Examples, short: bool, budget: Budget, left_out: list[str]) -> tuple[str, ...]:
    ways: dict[str, Callable[[], Callable[[int], object]]] = {
        way: lambda changes=changes: _our_steps(with_settings(spec, **changes), data)  # type: ignore[misc]
        for way, changes in VARIANTS.items()
    }
    ways = {"as it is": ways["as it is"], PLAIN: lambda: plain_steps(spec, data), **ways}
    if fits(spec):
        ways[GRAPH] = lambda: graph_steps(spec, data)
    rates: dict[str, float] = dict.fromkeys((*ways, GRAPH), math.nan)
    most = "-"
    for i, (way, make) in enumerate(ways.items()):
        if short and way == "compiled":
            left_out.append(f"compiled {spec.experiment}, as this is the short form")
            continue
        if budget.left < 1:
            left_out.append(f"{way} of {spec.experiment}, for lack of time")
            continue
        forget_peak(data.targets.device)
        try:
            rates[way] = rate(make(), data.targets.device, budget.share(len(ways) - i), short)
        except Exception as error:  # noqa: BLE001 - compilers fail in ways of their own; the other figures are wanted
            left_out.append(f"{way} of {spec.experiment}, which failed: {reason(error)}")
        if way == "as it is":
            most = peak(data.targets.device)
    count = sum(p.numel() for p in get_experiment(spec.experiment).net(spec).parameters())
    return (
        spec.experiment,
        f"{count:,}",
        str(spec.batch_size or len(data.targets)),
        *(_rate(rates[way]) for way in (*VARIANTS, GRAPH, PLAIN)),
        "-" if math.isnan(ratio := rates["as it is"] / rates[PLAIN]) else f"{ratio:.2f}x",
        most,
    )


def rate(steps: Callable[[int], object], device: torch.device, budget: Budget, short: bool) -> float:
    """Steps a second of the better of two rounds, after some steps to warm up."""
    steps(1 if short else WARM_UP)
    once, _ = seconds(lambda: steps(1), device)
    count = 1 if short else max(1, int(min(ROUND_SECONDS, budget.left / 3) / max(once, 1e-6)))
    return count / seconds(lambda: steps(count), device, rounds=2)[0]


def _our_steps(spec: RunSpec, data: Examples) -> Callable[[int], object]:
    experiment, device = get_experiment(spec.experiment), data.targets.device
    net = compiled(spec, experiment.net(spec).to(device).train())
    loop = Loop(experiment, spec, net, data)
    made = 0

    def steps(count: int) -> object:
        nonlocal made
        with numerics(spec, device):
            loss = loop.run(made, made + count)
        made += count
        synchronise(device)
        return loss

    return steps


def _rate(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.1f}"
