"""Analysis: what one module in tasks/analyses declares, and the view of a checkpoint that it computes from."""

import importlib
import pkgutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np
from torch import Tensor

import tasks.analyses
from models.checks import require_known
from models.experiment import Metric
from models.matrices import LayerPair, Matrix
from storage.schema import Variable
from tasks.decomposition import Factors
from tasks.evaluation import Evaluator


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointView:
    """One checkpoint, decomposed once, as every analysis sees it."""

    step: int
    weights: Mapping[str, Tensor]
    layers: tuple[Matrix, ...]
    pairs: tuple[LayerPair, ...]
    factors: Mapping[str, Factors]
    """By matrix name: every layer, and every part of one that a pair needs."""
    final: Mapping[str, Factors]
    """The same of the run's final checkpoint."""
    evaluate: Evaluator
    sizes: Mapping[str, int]
    """Length of every dimension."""

    def blank(self, *dims: str) -> np.ndarray:
        """An array of NaN over the dimensions."""
        return np.full([self.sizes[dim] for dim in dims], np.nan, dtype=np.float32)


@dataclass(frozen=True, slots=True, kw_only=True)
class Analysis:
    """A pure function of a checkpoint and the variables it fills; raise `version` when its numbers change."""

    name: str
    version: int
    variables: Mapping[str, Variable]
    """A name with `{metric}` stands for one variable for each metric of the experiment."""
    compute: Callable[[CheckpointView], dict[str, np.ndarray]]
    """Values of every variable, shaped by its dims without `step`."""

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


def analysis_names() -> list[str]:
    """Names of all analyses, without importing them."""
    return sorted(module.name for module in pkgutil.iter_modules(tasks.analyses.__path__))


def get_analysis(name: str) -> Analysis:
    """The analysis of that name; ValueError lists the known ones."""
    require_known("analysis", name, analysis_names())
    analysis: Analysis = importlib.import_module(f"tasks.analyses.{name}").ANALYSIS
    return analysis
