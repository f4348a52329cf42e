"""Analysis: the declaration in a module of tasks/analyses or a plug-in, and the views it computes from.

A module imports torch only where it computes, so that names, versions and variables are known without it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np

from specdyn.models.plugins import kinds
from specdyn.models.spec.checks import require, require_known
from specdyn.storage.results import Version
from specdyn.storage.schema import DIMENSIONS, Variable

if TYPE_CHECKING:
    from torch import Tensor

    from specdyn.models.experiments.base import Metric
    from specdyn.models.nets.matrices import LayerPair, Matrix
    from specdyn.tasks.evaluation.representations import Moments
    from specdyn.tasks.spectra.decomposition import Factors

Compared = Literal["", "initial", "previous", "final", "any"]
"""Which other checkpoint of a run: the first, the previous, the last, or several of these."""
Values = Mapping[str, np.ndarray | float]
"""By variable: a number, or an array that fills the leading corner of the variable; the rest is NaN."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Decomposed:
    """A checkpoint with the factors of its matrices, each computed once."""

    step: int
    weights: Mapping[str, Tensor]
    """Tensors by parameter, loaded lazily."""
    factors: Mapping[str, Factors]
    """Factors by matrix name: every layer, and every part that a pair needs."""


class Undeclared(Mapping[str, Any]):
    """Represents a checkpoint on which the results must not depend: reading it raises."""

    def __getitem__(self, name: str) -> Any:
        raise TypeError("it compares with a checkpoint that it does not declare: set compares='final', or 'any'")

    def __iter__(self) -> Iterator[str]:
        return iter(())

    def __len__(self) -> int:
        return 0


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerView:
    """One layer of one checkpoint, and the same layer elsewhere in the run."""

    layer: Matrix
    now: Decomposed
    initial: Decomposed
    """The run's first checkpoint."""
    previous: Decomposed | None
    """The previous checkpoint; None at the first."""
    final: Decomposed
    """The run's last checkpoint."""

    def declared(self, analysis: Analysis) -> LayerView:
        """The view with only those other checkpoints that an analysis declares."""
        if analysis.compares == "any":
            return self
        hidden = Decomposed(step=self.now.step, weights=Undeclared(), factors=Undeclared())
        return replace(
            self,
            initial=self.initial if analysis.compares == "initial" else hidden,
            previous=self.previous if analysis.compares == "previous" else hidden,
            final=self.final if analysis.compares == "final" else hidden,
        )

    def is_in(self, other: Decomposed) -> bool:
        """Whether another checkpoint has the layer in the same shape."""
        if self.layer.parameter not in other.weights:
            return False
        return other.weights[self.layer.parameter].shape == self.now.weights[self.layer.parameter].shape

    @property
    def factors(self) -> Factors:
        """Factors of the layer at this checkpoint."""
        return self.now.factors[self.layer.name]

    @property
    def w_MN(self) -> Tensor:
        """The layer at this checkpoint, as a matrix."""
        return self.layer.of(self.now.weights)


@dataclass(frozen=True, slots=True, kw_only=True)
class PairView:
    """Two layers of one checkpoint that feed one another."""

    pair: LayerPair
    now: Decomposed

    @property
    def writer(self) -> Factors:
        """Factors of the layer that writes; stacked by head if the pair has heads."""
        return self._by_head(self.pair.writer)

    @property
    def reader(self) -> Factors:
        """Factors of the layer that reads; stacked by head if the pair has heads."""
        return self._by_head(self.pair.reader)

    def _by_head(self, matrix: Matrix) -> Factors:
        """The factors of a matrix; a head is repeated for each head of the other layer that shares it."""
        factors = self.now.factors[matrix.name]
        if not 0 < matrix.heads < self.pair.heads:
            return factors
        times = self.pair.heads // matrix.heads
        left, s, right = (part.repeat_interleave(times, 0) for part in (factors.left, factors.s, factors.right))
        return factors._replace(left=left, s=s, right=right)


class Evaluate(Protocol):
    """Metrics of a network with given weights; see specdyn.tasks.evaluation.evaluator."""

    def __call__(self, weights: Mapping[str, Tensor], renormalise: bool = False) -> dict[str, np.ndarray]:
        """Each metric as an array over the splits; `renormalise` re-estimates BatchNorm's statistics."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointView:
    """One checkpoint as a whole, with functions to evaluate the network at any weights."""

    now: Decomposed
    layers: tuple[Matrix, ...]
    evaluate: Evaluate
    represent: Callable[[Mapping[str, Tensor]], Mapping[str, Moments]] | None = None
    """Moments of the layers' inputs on the validation examples, for any weights, by parameter; None without data."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunView:
    """All checkpoints of a run, for analyses that need more than one."""

    steps: tuple[int, ...]
    layers: tuple[Matrix, ...]
    pairs: tuple[LayerPair, ...]
    initial: Decomposed
    final: Decomposed
    read: Callable[[int], Mapping[str, Tensor]]
    """Reads the weights at a step."""
    absent: frozenset[str] = frozenset()
    """Parameters that some checkpoints lack or have in another shape."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Analysis:
    """A pure function of a view and the variables it fills; increase `version` when its numbers change.

    `of` is the kind of view: the function is called for each `layer`, `pair`, `checkpoint` or `run`. Values have the
    variable's dimensions without `step`, and without `layer`, `pair` or `attention` if the view is one of these.
    Values of a `line` between two runs, or of a `ticket` and its dense run, have all dimensions of their variables.
    """

    name: str
    version: int
    of: Literal["layer", "pair", "checkpoint", "run", "line", "ticket"]
    variables: Mapping[str, Variable]
    """A name with `{metric}` stands for one variable per metric of the experiment."""
    compute: Callable[[Any], Values]
    default: bool = True
    """Whether it runs by default; large or slow analyses do not."""
    needs_vectors: bool = True
    """Whether it needs singular vectors."""
    needs_data: bool = False
    """Whether it evaluates the network, which needs an experiment's data."""
    compares: Compared = ""
    """The other checkpoint with which it compares; in other programs' series it can access no other."""
    labels: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    """Labels of dimensions that this analysis adds."""

    of_both: bool = True
    """Whether all of its values need the other checkpoint."""
    source: str = ""
    """Digest of the source of a plug-in; empty for analyses of the package."""

    @property
    def counted(self) -> Version:
        """The version that results must match; for a plug-in it includes the source, so that an edit takes effect."""
        return f"{self.version}+{self.source}" if self.source else self.version

    @property
    def depends(self) -> str:
        """What its values depend on: the checkpoint (`own`), also the one it compares with, or all (`series`)."""
        return "series" if self.of == "run" else self.compares or "own"

    def variables_for(self, metrics: Mapping[str, Metric]) -> dict[str, Variable]:
        """The variables of an experiment with these metrics."""
        expanded: dict[str, Variable] = {}
        for name, variable in self.variables.items():
            if "{metric}" not in name:
                expanded[name] = variable
                continue
            for key, metric in metrics.items():
                long_name = variable.long_name.format(metric=metric.long_name)
                expanded[name.format(metric=key)] = replace(variable, long_name=long_name, units=metric.units)
        return expanded


def _of_plugin(declared: object, name: str, source: str) -> Analysis:
    """The analysis of a plug-in, with the digest of its source; ValueError if it conflicts with others."""
    found = kinds.named(declared, name, Analysis)
    require_known("view `of`", found.of, VIEWS)
    require(bool(found.variables), "variables", found.variables, "one or more")
    known = {*DIMENSIONS, *found.labels}
    for variable, stored in found.variables.items():
        for dim in stored.dims:
            require_known(f"dimension of {variable} (a new one needs `labels`)", dim, known)
    for other in kinds.inside(ANALYSES).values():
        _require_apart(found, other)
    return replace(found, source=source)


def _require_apart(analysis: Analysis, other: Analysis) -> None:
    """Raise ValueError if two analyses share a variable, or have different labels for a dimension."""
    for variable in analysis.variables:
        taken = variable in other.variables
        require(not taken, "variable", variable, f"another name, as the analysis {other.name} has this one")
    for dim, labels in analysis.labels.items():
        others = other.labels.get(dim, labels)
        require(tuple(labels) == tuple(others), f"labels of {dim}", labels, f"{others}, as {other.name} has them")


VIEWS = ("layer", "pair", "checkpoint", "run")
"""Allowed values of `of` for analyses found by name."""
ANALYSES = kinds.Kind(group="analyses", noun="analysis", package="specdyn.tasks.analyses", checked=_of_plugin)


def analysis_names() -> list[str]:
    """Names of all analyses, without importing them."""
    return kinds.names(ANALYSES)


def default_analyses() -> list[str]:
    """Names of the default analyses, without unusable plug-ins."""
    return [name for name, analysis in kinds.usable(ANALYSES).items() if analysis.default]


def versions_of(names: Iterable[str]) -> dict[str, Version]:
    """The present version of each of these analyses; ValueError if two of them conflict."""
    usable = kinds.usable(ANALYSES)
    chosen = [usable[name] if name in usable else get_analysis(name) for name in names]
    outside = [analysis for analysis in chosen if analysis.source]
    for i, analysis in enumerate(outside):
        for other in outside[:i]:
            _require_apart(analysis, other)
    return {analysis.name: analysis.counted for analysis in chosen}


def present_versions() -> dict[str, Version]:
    """The present version of every usable analysis."""
    return {name: analysis.counted for name, analysis in kinds.usable(ANALYSES).items()}


def get_analysis(name: str) -> Analysis:
    """The analysis of that name; ValueError lists the known ones."""
    return kinds.get(ANALYSES, name)
