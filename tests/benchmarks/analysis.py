"""One pass with one decomposition a matrix against each analysis decomposing anew, on the same checkpoints."""

import dataclasses
import math
import tempfile
import time
from collections.abc import Callable

import torch
from torch import Tensor

import tasks.one_pass
from models.experiment import get_experiment
from models.nets.transformer import TransformerNet
from models.run_spec import RunSpec
from storage import results
from storage.checkpoints import Manifest, read_checkpoint
from storage.locations import Layout
from tasks.analysis import analysis_names
from tasks.environment import use_threads
from tasks.evaluation import Evaluator
from tasks.one_pass import analyse_block, anatomy, decompose_final, run_layout
from tasks.training import train

CHECKPOINTS = 10
ROUNDS = 3

Matrices = dict[str, Tensor]


class Counter:
    """Counts the calls of a function and their CPU seconds."""

    def __init__(self, function: Callable[..., object]) -> None:
        self.function, self.calls, self.seconds = function, 0, 0.0

    def __call__(self, *args: object, **kwargs: object) -> object:
        since = time.process_time()
        try:
            return self.function(*args, **kwargs)
        finally:
            self.calls += 1
            self.seconds += time.process_time() - since


def rows() -> list[tuple[str, str, str, str, str]]:
    """Decompositions a checkpoint, and CPU seconds with and without evaluating the networks."""
    torch.manual_seed(0)
    use_threads(1)
    preset = get_experiment("modular_addition").preset("demo").spec
    spec = dataclasses.replace(preset, steps=500, checkpoint_every=50, weight_decay=1.0)
    with tempfile.TemporaryDirectory() as store:
        manifest = train(spec, store)
        steps = manifest.steps[:CHECKPOINTS]
        without = [name for name in analysis_names() if name not in ("performance", "pruning")]
        naive = Counter(torch.linalg.svd)
        ours = Counter(tasks.one_pass.decompose)
        tasks.one_pass.decompose = ours  # type: ignore[assignment]
        plain = best(lambda: naive_pass(spec, store, manifest, steps, naive, evaluated=False))
        one = best(lambda: our_pass(spec, store, manifest, steps, without))
        plain_all = best(lambda: naive_pass(spec, store, manifest, steps, naive, evaluated=True))
        one_all = best(lambda: our_pass(spec, store, manifest, steps, analysis_names()))
        tasks.one_pass.decompose = ours.function  # type: ignore[assignment]
    # The plain way makes the factors of the final checkpoint outside its counter, ours inside.
    passes = 2 * ROUNDS * len(steps), 2 * ROUNDS * (len(steps) + 1)
    per_checkpoint = naive.calls / passes[0], ours.calls / passes[1]
    alone = 1000 * naive.seconds / passes[0], 1000 * ours.seconds / passes[1]
    how = f"modular addition, {len(steps)} checkpoints, 1 thread, best of {ROUNDS}"
    return [
        ("decompositions a checkpoint", *(f"{n:.4g}" for n in per_checkpoint), ratio(*per_checkpoint), how),
        ("decompositions alone, CPU ms a checkpoint", *(f"{n:.1f}" for n in alone), ratio(*alone), how),
        ("analysis without evaluation, CPU s", f"{plain:.3f}", f"{one:.3f}", ratio(plain, one), how),
        ("analysis with evaluation, CPU s", f"{plain_all:.3f}", f"{one_all:.3f}", ratio(plain_all, one_all), how),
    ]


def ratio(plain: float, ours: float) -> str:
    """How many times less ours is."""
    return f"{plain / ours:.2f}x"


def best(work: Callable[[], object]) -> float:
    """The least CPU seconds of several rounds."""
    seconds = []
    for _ in range(ROUNDS):
        since = time.process_time()
        work()
        seconds.append(time.process_time() - since)
    return min(seconds)


def our_pass(spec: RunSpec, store: str, manifest: Manifest, steps: tuple[int, ...], names: list[str]) -> None:
    """The pipeline's own units, writing into a fresh run store; includes the final checkpoint's factors."""
    short = dataclasses.replace(manifest, checkpoints=manifest.checkpoints[: len(steps) + 1])
    with tempfile.TemporaryDirectory() as target:
        layout = run_layout(spec, steps, names)
        results.allocate(Layout(target).run_store(spec.experiment, spec.run_id), layout)
        final = decompose_final(spec, store, short)
        for block in layout.blocks():
            analyse_into(target, spec, store, short, layout, block, names, final)


def analyse_into(target: str, spec: RunSpec, store: str, *rest: object) -> None:
    """`analyse_block` with the checkpoints of one store and the results in another."""
    read = tasks.one_pass.read_checkpoint
    tasks.one_pass.read_checkpoint = lambda _, *args: read(store, *args)
    try:
        analyse_block(spec, target, *rest)  # type: ignore[arg-type]
    finally:
        tasks.one_pass.read_checkpoint = read


def naive_pass(
    spec: RunSpec, store: str, manifest: Manifest, steps: tuple[int, ...], svd: Counter, evaluated: bool
) -> None:
    """Agreement, alignment and pruning, each with float32 SVDs of its own: 26, and 2 stacks, a checkpoint."""
    experiment = get_experiment(spec.experiment)
    net = every_position(spec)
    body = anatomy(experiment, spec, net)
    evaluate = Evaluator(experiment, spec, net, experiment.load_data(spec), torch.device("cpu"))
    entries = {entry.step: entry for entry in manifest.checkpoints}
    last = read_checkpoint(store, spec.experiment, spec.run_id, manifest.checkpoints[len(steps)])
    final = {layer.name: torch.linalg.svd(layer.of(last), full_matrices=False) for layer in body.layers}
    for step in steps:
        weights = read_checkpoint(store, spec.experiment, spec.run_id, entries[step])
        for layer in body.layers:
            u, _, vh = svd(layer.of(weights), full_matrices=False)  # type: ignore[misc]
            u_final, _, vh_final = final[layer.name]
            ((u.T @ u_final) * (vh @ vh_final.T)).abs()
        for pair in body.pairs:
            sides = []
            for matrix, side in ((pair.reader, pair.reader_vectors), (pair.writer, pair.writer_vectors)):
                u, _, vh = svd(matrix.of(weights), full_matrices=False)  # type: ignore[misc]
                sides.append(u.mT if side == "left" else vh)
            (sides[0] @ sides[1].mT).abs()
        variants = [weights, *(pruned(weights, body.layers[:-1], top, svd) for top in (True, False))]
        if evaluated:
            for variant in variants:
                evaluate(variant)


class EveryPosition(TransformerNet):
    """The network evaluated as one would first: all positions, of which the last is used."""

    def forward(self, tokens: Tensor, last_only: bool = True) -> Tensor:
        """Logits of the last position."""
        return super().forward(tokens, last_only=False)[:, -1]


def every_position(spec: RunSpec) -> TransformerNet:
    """The spec's network without the shortcut of computing the last position alone."""
    return EveryPosition(spec.net, vocabulary=spec.data.prime + 1, length=3)


def pruned(weights: Matrices, matrices: tuple[tasks.one_pass.Matrix, ...], top: bool, svd: Counter) -> Matrices:
    """The weights with half of the singular values of every matrix, decomposed anew."""
    kept = dict(weights)
    for matrix in matrices:
        u, s, vh = svd(matrix.of(weights), full_matrices=False)  # type: ignore[misc]
        k = math.ceil(len(s) / 2)
        part = slice(None, k) if top else slice(k, None)
        kept[matrix.parameter] = (u[:, part] * s[part]) @ vh[part]
    return kept
