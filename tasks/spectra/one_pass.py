"""Runs all analyses of a block of checkpoints in one pass, with one decomposition per matrix."""

import functools
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from specdyn.models.nets.matrices import Matrix
from specdyn.storage.results import write_block
from specdyn.tasks.evaluation.environment import pick_device, versions
from specdyn.tasks.evaluation.evaluator import Evaluator
from specdyn.tasks.spectra.analysis import (
    Analysis,
    CheckpointView,
    Decomposed,
    LayerView,
    PairView,
    RunView,
    get_analysis,
)
from specdyn.tasks.spectra.decomposition import Factors, decompose, decompose_alike
from specdyn.tasks.spectra.filling import fill, stack
from specdyn.tasks.spectra.network_layout import NetworkLayout, Target
from specdyn.tasks.spectra.series import Deferred, Series, ahead, need_vectors

log = logging.getLogger("specdyn.analysis")

HELD_BYTES = 2**28
"""Bytes of matrices per batch on a GPU: decomposing them takes several times their memory."""

Anchor = tuple[int, Mapping[str, Factors]]
"""Factors computed earlier, by step and matrix: of the first, the last, and neighbouring blocks' checkpoints."""


@dataclass(kw_only=True)
class Pass:
    """The work on one block: what to analyse, and the number of decompositions."""

    series: Series
    layout: NetworkLayout
    target: Target
    analyses: Sequence[Analysis]
    scratch: Callable[[], MutableMapping[str, Factors]]
    """Creates a mapping for the factors of a checkpoint: a dict, or a folder if they would not fit in memory."""
    anchors: dict[int, Mapping[str, Factors]]
    advance: Callable[[int], None] = field(default=lambda _: None)
    """Called with the number of newly finished matrices."""
    decompositions: int = field(default=0)
    _absent: dict[int, frozenset[str]] = field(default_factory=dict)

    def of(self, kind: str) -> list[Analysis]:
        """The analyses of that kind."""
        return [analysis for analysis in self.analyses if analysis.of == kind]

    @property
    def variables(self) -> list[str]:
        """Variables that every block writes, computed or not, so that nothing of an earlier write remains."""
        declared = (name for analysis in self.analyses if analysis.of != "run" for name in analysis.variables)
        return [name for name in declared if name in self.target.layout.variables]

    @functools.cached_property
    def first(self) -> Decomposed:
        """The run's first checkpoint; its weights are read on demand, once per block."""
        return self.anchored(self.series.steps[0])

    @functools.cached_property
    def last(self) -> Decomposed:
        """The run's last checkpoint."""
        return self.anchored(self.series.steps[-1])

    def absent(self, step: int) -> frozenset[str]:
        """Parameters that a checkpoint lacks; cached."""
        if step not in self._absent:
            self._absent[step] = self.series.absent(step, self.layout)
        return self._absent[step]

    def comparable(self, analysis: Analysis, layer: Matrix, step: int) -> bool:
        """Whether the other checkpoint of an analysis has the layer; otherwise its values are NaN.

        `norms` also has values that need no other checkpoint.
        """
        steps = self.series.steps
        of = {"initial": steps[0], "final": steps[-1], "previous": steps[max(0, steps.index(step) - 1)]}
        if not analysis.compares or not analysis.of_both:
            return True
        if analysis.compares == "any":
            return not any(layer.parameter in self.absent(other) for other in of.values())
        return layer.parameter not in self.absent(of[analysis.compares])

    def anchored(self, step: int) -> Decomposed:
        """A checkpoint with known factors; its weights are read on demand."""
        weights = Deferred(functools.partial(self.series.weights, step))
        return Decomposed(step=step, weights=weights, factors=self.anchors.get(step, {}))


def decompose_step(
    series: Series,
    layout: NetworkLayout,
    step: int,
    vectors: bool = True,
    scratch: Callable[[], MutableMapping[str, Factors]] = dict,
) -> Anchor:
    """The factors of one checkpoint, for blocks that need it as an anchor; reuses stored ones."""
    factors, there = scratch(), layout.without(series.absent(step, layout))
    if {matrix.name for matrix in (there.matrices if vectors else there.layers)} <= set(factors):
        return step, factors
    for _ in decompose_into(factors, series.weights(step), there, f"{series.name} step {step}", vectors):
        pass
    return step, factors


def decompose_into(
    factors: MutableMapping[str, Factors],
    weights: Mapping[str, Tensor],
    layout: NetworkLayout,
    what: str,
    vectors: bool = True,
) -> Iterable[Matrix]:
    """Decompose every matrix once, parameter by parameter; yields each matrix when it is done.

    On a GPU, matrices of equal shape are decomposed together. Without `vectors`, only the singular values of the layers
    are computed. `what` names run and step in errors.
    """
    of_parameter: dict[str, list[Matrix]] = {}
    for matrix in layout.matrices if vectors else layout.layers:
        of_parameter.setdefault(matrix.parameter, []).append(matrix)
    if (device := pick_device()).type != "cpu":
        for together in _on_device(of_parameter, weights, device):
            factors.update(decompose_alike({matrix.name: w for matrix, w in together.items()}, what, vectors))
            yield from together
        return
    for parameter, w in _in_turn(of_parameter, weights):
        for matrix in of_parameter[parameter]:
            factors[matrix.name] = decompose(matrix.of({parameter: w}), f"{what} layer {matrix.name}", vectors)
            yield matrix


def _in_turn(parameters: Iterable[str], weights: Mapping[str, Tensor]) -> Iterable[tuple[str, Tensor]]:
    """Each parameter with its tensor, read ahead by a thread unless it is in memory."""
    if isinstance(weights, dict):
        return ((parameter, weights[parameter]) for parameter in parameters)
    return ahead(parameters, weights.__getitem__)


def _on_device(
    of_parameter: Mapping[str, Sequence[Matrix]], weights: Mapping[str, Tensor], device: torch.device
) -> Iterator[dict[Matrix, Tensor]]:
    """The matrices on the device, in batches that fit; reads each parameter once."""
    held: dict[Matrix, Tensor] = {}
    for parameter, w in _in_turn(of_parameter, weights):
        held |= {matrix: matrix.of({parameter: w}).to(device) for matrix in of_parameter[parameter]}
        if sum(matrix.nbytes for matrix in held.values()) >= HELD_BYTES:
            yield held
            held = {}
    if held:
        yield held


def analyse_block(
    series: Series,
    layout: NetworkLayout,
    target: Target,
    steps: tuple[int, ...],
    analyses: Sequence[str],
    *anchors: Anchor,
    scratch: Callable[[], MutableMapping[str, Factors]] = dict,
) -> int:
    """Analyse the checkpoints of a block and write their values as one object; returns the number of decompositions.

    `anchors` has the factors of the run's first and last checkpoint and of the one before the block, which are not
    decomposed again. Holds the weights of two checkpoints, and the factors of four, at a time.
    """
    work = Pass(
        series=series,
        layout=layout,
        target=target,
        analyses=[get_analysis(name) for name in analyses],
        scratch=scratch,
        anchors=dict(anchors),
    )
    rows, of_run = measure_block(work, steps)
    if target.contents:
        _write_each(work, steps, rows, of_run)
    else:
        _write(work, steps, work.analyses, rows, of_run)
    log.info(
        "%s: steps %d to %d analysed, %d SVDs (shared ones not counted)",
        series.name,
        steps[0],
        steps[-1],
        work.decompositions,
    )
    return work.decompositions


def measure_block(work: Pass, steps: tuple[int, ...]) -> tuple[list[dict[str, np.ndarray]], dict[str, np.ndarray]]:
    """The values of each of these checkpoints and, if the last checkpoint is included, of the run."""
    series = work.series
    evaluate = series.evaluator() if any(analysis.needs_data for analysis in work.analyses) else None
    rows: list[dict[str, np.ndarray]] = []
    position = series.steps.index(steps[0])
    previous = work.anchored(series.steps[position - 1]) if position else None
    for step, weights in ahead(steps, series.weights):
        row: dict[str, np.ndarray] = {}
        now = _analyse_layers(work, step, weights, previous, row)
        # Values over all layers are NaN if some layers are missing.
        for analysis in () if work.absent(step) else work.of("checkpoint"):
            view = CheckpointView(
                now=now,
                layers=work.layout.layers,
                evaluate=evaluate,  # type: ignore[arg-type]
                represent=evaluate.represent if isinstance(evaluate, Evaluator) else None,
            )
            fill(row, work.target.layout, analysis, view, f"{series.name} step {step}")
        rows.append(row)
        previous = now
    return rows, analyse_run(work) if steps[-1] == series.steps[-1] else {}


def _write_each(
    work: Pass, steps: Sequence[int], rows: Sequence[Mapping[str, np.ndarray]], of_run: Mapping[str, np.ndarray]
) -> None:
    """Write the values of each checkpoint separately, by what determines them."""
    for step, row in zip(steps, rows, strict=True):
        for depends, content in work.target.contents[step].items():
            analyses = [analysis for analysis in work.analyses if analysis.depends == depends]
            if analyses and (depends != "series" or step == work.series.steps[-1]):
                values = of_run if depends == "series" else {}
                _write(work, (step,), analyses, [row], values, content)


def _write(
    work: Pass,
    steps: tuple[int, ...],
    analyses: Sequence[Analysis],
    rows: Sequence[Mapping[str, np.ndarray]],
    of_run: Mapping[str, np.ndarray],
    content: str = "",
) -> None:
    """Write the values of these analyses as one object."""
    declared = {name for analysis in analyses for name in analysis.variables_for({})} if content else None
    kept = [{name: row[name] for name in row if declared is None or name in declared} for row in rows]
    layout = work.target.layout
    write_block(
        work.target.folder,
        layout,
        steps,
        {analysis.name: analysis.counted for analysis in analyses},
        stack(kept, layout, [n for n in work.variables if declared is None or n in declared]),
        of_run,
        {**layout.attributes, "versions": versions(), "threads": torch.get_num_threads()},
        content,
    )


def _analyse_layers(
    work: Pass, step: int, weights: Mapping[str, Tensor], previous: Decomposed | None, row: dict[str, np.ndarray]
) -> Decomposed:
    """Decompose a checkpoint and analyse each layer as soon as it is decomposed, then the pairs."""
    what, known = f"{work.series.name} step {step}", work.anchors.get(step)
    there = work.layout.without(work.absent(step))
    factors = work.scratch() if known is None else known
    now = Decomposed(step=step, weights=weights, factors=factors)
    index = {layer: i for i, layer in enumerate(work.layout.layers)}
    vectors = need_vectors(work.analyses)
    made: Iterable[Matrix] = there.matrices if vectors else there.layers
    if known is None:
        work.decompositions += len(tuple(made))
        made = decompose_into(factors, weights, there, what, vectors)  # type: ignore[arg-type]
    for matrix in made:
        work.advance(1)
        if matrix in index:
            whole = LayerView(layer=matrix, now=now, initial=work.first, previous=previous, final=work.last)
            for analysis in work.of("layer"):
                if not work.comparable(analysis, matrix, step):
                    continue
                view = whole.declared(analysis) if work.target.contents else whole
                fill(row, work.target.layout, analysis, view, f"{what} layer {matrix.name}", {"layer": index[matrix]})
    attention = {pair: i for i, pair in enumerate(work.layout.attention)}
    pairs = {pair: i for i, pair in enumerate(work.layout.pairs)}
    for pair in there.pairs if vectors else ():
        i = pairs[pair]
        for analysis in work.of("pair"):
            where = {"pair": i} | ({"attention": attention[pair]} if pair in attention else {})
            fill(row, work.target.layout, analysis, PairView(pair=pair, now=now), f"{what} pair {pair.name}", where)
    return now


def analyse_run(work: Pass) -> dict[str, np.ndarray]:
    """The values of the analyses of the whole run."""
    view = RunView(
        steps=work.series.steps,
        layers=work.layout.layers,
        pairs=work.layout.pairs,
        initial=work.first,
        final=work.last,
        read=work.series.weights,
        absent=frozenset().union(*map(work.absent, work.series.steps)),
    )
    values: dict[str, np.ndarray] = {}
    for analysis in work.of("run"):
        fill(values, work.target.layout, analysis, view, work.series.name)
    return values
