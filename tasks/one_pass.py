"""All analyses of a block of checkpoints in one pass, with one decomposition a matrix."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from models.experiment import Experiment, get_experiment
from models.matrices import LayerPair, Matrix, layers, rank_limit
from models.run_spec import RunSpec, hyperparameters, to_json
from storage import results
from storage.checkpoints import Manifest, read_checkpoint
from storage.locations import Layout
from storage.results import RunLayout
from storage.schema import SPLITS, TOP_RANKS
from tasks.analysis import Analysis, CheckpointView, get_analysis
from tasks.decomposition import DRIVERS, Factors, decompose
from tasks.environment import pick_device, versions
from tasks.evaluation import Evaluator
from tasks.masking import KEPT


@dataclass(frozen=True, slots=True, kw_only=True)
class Anatomy:
    """The matrices of a spec's network."""

    layers: tuple[Matrix, ...]
    pairs: tuple[LayerPair, ...]
    shapes: tuple[tuple[int, int], ...]
    """(M, N) of each layer."""
    ranks: int

    @property
    def matrices(self) -> tuple[Matrix, ...]:
        """Everything that is decomposed: the layers, then the parts of them that pairs need."""
        parts = [matrix for pair in self.pairs for matrix in (pair.writer, pair.reader)]
        return tuple(dict.fromkeys([*self.layers, *parts]))

    @property
    def attention(self) -> tuple[Matrix, ...]:
        """Queries of the attention layers that are split by head."""
        return tuple(pair.reader for pair in self.pairs if pair.reader.heads)


def anatomy(experiment: Experiment, spec: RunSpec, net: nn.Module) -> Anatomy:
    """The layers and pairs of a network, in registration order."""
    found = layers(net)
    weights = dict(net.named_parameters())
    shapes = tuple((int(w.shape[0]), int(w.shape[1])) for w in (layer.of(weights) for layer in found))
    return Anatomy(layers=found, pairs=experiment.layer_pairs(spec, net), shapes=shapes, ranks=rank_limit(found, net))


def run_layout(spec: RunSpec, steps: Sequence[int], analyses: Sequence[str]) -> RunLayout:
    """The run store of a spec: labels of its dimensions and the variables of the analyses."""
    experiment = get_experiment(spec.experiment)
    body = anatomy(experiment, spec, experiment.net(spec))
    top = min(TOP_RANKS, body.ranks)
    heads = max((matrix.heads for matrix in body.attention), default=0)
    labels: dict[str, Sequence[Any]] = {
        "step": list(steps),
        "layer": [layer.name for layer in body.layers],
        "pair": [pair.name for pair in body.pairs],
        "attention": [matrix.parameter for matrix in body.attention],
        "head": list(range(1, heads + 1)),
        "rank": list(range(1, body.ranks + 1)),
        "row": list(range(1, top + 1)),
        "column": list(range(1, top + 1)),
        "split": list(SPLITS),
        "kept": list(KEPT),
    }
    declared = [get_analysis(name).variables_for(experiment.metrics(spec)) for name in analyses]
    variables = {
        name: variable
        for of_analysis in declared
        for name, variable in of_analysis.items()
        if all(labels[dim] for dim in variable.dims)
    }
    return RunLayout(
        labels=labels,
        variables=variables,
        attributes={"run_id": spec.run_id, "spec": to_json(spec), "hyperparameters": hyperparameters(spec)},
        extras={
            "rows": ("layer", [m for m, _ in body.shapes], "output directions"),
            "columns": ("layer", [n for _, n in body.shapes], "input directions"),
        },
    )


def decompose_all(weights: Mapping[str, Tensor], matrices: Sequence[Matrix], what: str) -> dict[str, Factors]:
    """The factors of every matrix by name, each decomposed once; `what` names run and step in errors."""
    return {matrix.name: decompose(matrix.of(weights), f"{what} layer {matrix.name}") for matrix in matrices}


def decompose_final(spec: RunSpec, store: str, manifest: Manifest) -> dict[str, Factors]:
    """The factors of the run's final checkpoint, which all blocks compare with."""
    experiment = get_experiment(spec.experiment)
    matrices = anatomy(experiment, spec, experiment.net(spec)).matrices
    entry = manifest.checkpoints[-1]
    weights = read_checkpoint(store, spec.experiment, spec.run_id, entry)
    return decompose_all(weights, matrices, f"run {spec.run_id} step {entry.step}")


def analyse_block(
    spec: RunSpec,
    store: str,
    manifest: Manifest,
    layout: RunLayout,
    steps: tuple[int, ...],
    analyses: Sequence[str],
    final: Mapping[str, Factors],
) -> int:
    """Analyse the checkpoints of a block, write their values, then mark the block; gives the decompositions made.

    Holds one checkpoint at a time. The final checkpoint's factors are passed in and not made again.
    """
    experiment = get_experiment(spec.experiment)
    net = experiment.net(spec)
    body = anatomy(experiment, spec, net)
    chosen = [get_analysis(name) for name in analyses]
    evaluate = Evaluator(experiment, spec, net, experiment.load_data(spec), pick_device())
    entries = {entry.step: entry for entry in manifest.checkpoints}
    rows: list[dict[str, np.ndarray]] = []
    decompositions = 0
    for step in steps:
        weights = read_checkpoint(store, spec.experiment, spec.run_id, entries[step])
        if step == manifest.steps[-1]:
            factors: Mapping[str, Factors] = final
        else:
            factors = decompose_all(weights, body.matrices, f"run {spec.run_id} step {step}")
            decompositions += len(factors)
        view = CheckpointView(
            step=step,
            weights=weights,
            layers=body.layers,
            pairs=body.pairs,
            factors=factors,
            final=final,
            evaluate=evaluate,
            sizes=layout.sizes,
        )
        rows.append(compute_all(chosen, view, layout))
    where = Layout(store)
    results.write_block(where.run_store(spec.experiment, spec.run_id), layout, steps, stack(rows, layout))
    drivers = sorted({DRIVERS[f.driver] for f in final.values()})
    for analysis in chosen:
        body_of_marker = {"versions": versions(), "drivers": drivers, "threads": torch.get_num_threads()}
        commits = where.commits(spec.experiment, spec.run_id)
        results.commit(commits, analysis.name, analysis.version, steps, body_of_marker)
    return decompositions


def compute_all(analyses: Sequence[Analysis], view: CheckpointView, layout: RunLayout) -> dict[str, np.ndarray]:
    """The values of every analysis of one checkpoint, checked against their declarations."""
    values: dict[str, np.ndarray] = {}
    for analysis in analyses:
        try:
            computed = analysis.compute(view)
        except Exception as error:
            raise RuntimeError(f"analysis {analysis.name!r} failed at step {view.step}: {error}") from error
        for name, array in computed.items():
            if name in layout.variables:
                layout.variables[name].check(name, array, view.sizes)
                values[name] = array
    return values


def stack(rows: Sequence[Mapping[str, np.ndarray]], layout: RunLayout) -> dict[str, np.ndarray]:
    """The values of several steps joined along each variable's `step` dimension."""
    return {
        name: np.stack([row[name] for row in rows], axis=layout.variables[name].dims.index("step")) for name in rows[0]
    }
