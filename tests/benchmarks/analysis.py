"""The published analyses of a run of modular addition: our units against each analysis decomposing again."""

import functools
import math
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch.nn import functional as F

sys.path.insert(0, str(Path(__file__).parents[1]))  # the oracles of the tests

from reference.transformers import TorchTransformer
from specdyn.models.experiments.base import get_experiment
from specdyn.models.nets.transformer import TransformerNet
from specdyn.models.spec.run_spec import RunSpec
from specdyn.models.spec.settings import with_settings
from specdyn.storage.checkpoints import Manifest, read_checkpoint
from specdyn.storage.places import Store
from specdyn.tasks.evaluation.environment import use_threads
from specdyn.tasks.evaluation.examples import load_examples
from specdyn.tasks.spectra.network_layout import Target, network_layout, run_layout
from specdyn.tasks.spectra.one_pass import analyse_block, decompose_step
from specdyn.tasks.spectra.series import RunSeries
from specdyn.tasks.training.training import train
from tests.benchmarks.spectra import published

CHECKPOINTS = 20
ROUNDS = 3
PUBLISHED = ("spectrum", "effective_rank", "agreement", "alignment")
EVALUATED = ("performance", "pruning")


def rows() -> list[tuple[str, str, str, str, str]]:
    """CPU seconds of the published analyses of a run, with and without evaluating the networks."""
    torch.manual_seed(0)
    use_threads(1)
    preset = get_experiment("modular_addition").preset("demo").spec
    spec = with_settings(preset, steps=50 * (CHECKPOINTS - 1), checkpoint_every=50, weight_decay=1.0)
    with tempfile.TemporaryDirectory() as folder:
        store = Store(folder)
        manifest = train(spec, store)
        works = {
            (evaluated, ours): (
                functools.partial(our_pass, spec, store, manifest, PUBLISHED + (EVALUATED if evaluated else ()))
                if ours
                else functools.partial(naive_pass, spec, store, manifest, evaluated)
            )
            for evaluated in (False, True)
            for ours in (False, True)
        }
        seconds = dict.fromkeys(works, math.inf)
        for _ in range(ROUNDS):
            for key, work in works.items():
                since = time.process_time()
                work()
                seconds[key] = min(seconds[key], time.process_time() - since)
    how = f"modular addition, {CHECKPOINTS} checkpoints, 1 thread, best of {ROUNDS}, alternating; ours also stores"
    return [
        (f"analysis {text} evaluation, CPU s", *_cells(seconds[flag, False], seconds[flag, True]), how)
        for flag, text in ((False, "without"), (True, "with"))
    ]


def _cells(plain: float, ours: float) -> tuple[str, str, str]:
    return f"{plain:.3f}", f"{ours:.3f}", f"{plain / ours:.2f}x"


def our_pass(
    spec: RunSpec, store: Store, manifest: Manifest, names: tuple[str, ...], enough: Callable[[], bool] = lambda: False
) -> int:
    """The pipeline's own units, putting results into a fresh folder; returns how many checkpoints were analysed."""
    analysed = 0
    series, body = RunSeries(store=store, manifest=manifest), network_layout(spec)
    metrics = get_experiment(spec.experiment).metrics(spec)
    with tempfile.TemporaryDirectory() as folder:
        layout = run_layout(body, series.steps, names, metrics, {})
        target = Target(folder=folder, layout=layout)
        # One block, so that data and network are made once, as the plain pass does.
        anchors = [decompose_step(series, body, step) for step in (series.steps[0], series.steps[-1])]
        for block in layout.blocks():
            if enough():
                break
            before = series.steps[max(0, series.steps.index(block[0]) - 1)]
            known = [step for step, _ in anchors]
            more = [decompose_step(series, body, step) for step in {before, block[-1]} - set(known)]
            anchors = [*anchors[:2], *more, *(a for a in anchors[2:] if a[0] == before)]
            analyse_block(series, body, target, block, names, *anchors)
            analysed += len(block)
    return analysed


def naive_pass(spec: RunSpec, store: Store, manifest: Manifest, evaluated: bool) -> None:
    """The published pattern: float32 SVDs for each analysis again, and torch's own network at every position."""
    body, data = network_layout(spec), load_examples(spec, store)
    net = get_experiment(spec.experiment).net(spec)
    assert isinstance(net, TransformerNet)
    weights = [read_checkpoint(store.run_of(spec), entry) for entry in manifest.checkpoints]
    for of_step in weights:
        pruned = published(of_step, weights[-1], body, net)[1]
        for variant in (of_step, *pruned) if evaluated else ():
            net.load_state_dict(variant)
            plain = TorchTransformer(net, 3).eval()
            with torch.no_grad():
                for examples in data.values():
                    outputs = plain(examples.inputs)[:, -1]
                    F.cross_entropy(outputs, examples.targets).item()
                    (outputs.argmax(-1) != examples.targets).float().mean().item()
