"""Hand-made checkpoints, analysed by the pipeline's own pass."""

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from specdyn.models.experiments.base import Metric
from specdyn.models.nets.matrices import LayerPair, entry
from specdyn.storage.access.objects import names
from specdyn.storage.results import parts_in
from specdyn.storage.rows import Row, row_values
from specdyn.tasks.spectra.analysis import Evaluate
from specdyn.tasks.spectra.network_layout import NetworkLayout, Target, run_layout
from specdyn.tasks.spectra.one_pass import analyse_block, decompose_step

TOTAL = {"total": Metric(of=lambda outputs, batch: outputs, long_name="sum of all entries")}


def total(weights: Mapping[str, Tensor], renormalise: bool = False) -> dict[str, np.ndarray]:
    """A metric that can be told by hand: the sum of all entries, times (1, -1) over the splits."""
    value = sum(float(w.sum()) for w in weights.values())
    return {"total": np.array([value, -value], dtype=np.float32)}


@dataclass(frozen=True)
class HandMade:
    """Checkpoints by step."""

    checkpoints: Mapping[int, Mapping[str, Tensor]]
    evaluate: Evaluate = total
    name: str = "test"

    @property
    def steps(self) -> tuple[int, ...]:
        return tuple(self.checkpoints)

    def weights(self, step: int) -> Mapping[str, Tensor]:
        return self.checkpoints[step]

    def absent(self, step: int, layout: NetworkLayout) -> frozenset[str]:
        return frozenset()

    def evaluator(self) -> Evaluate:
        return self.evaluate


def body_of(weights: Mapping[str, Tensor], pairs: Sequence[LayerPair] = ()) -> NetworkLayout:
    """Every tensor a layer."""
    return NetworkLayout(entries=tuple(entry(name, tuple(w.shape)) for name, w in weights.items()), pairs=tuple(pairs))


def analysed(
    series: HandMade, body: NetworkLayout, analyses: Sequence[str], metrics: Mapping[str, Metric] = TOTAL
) -> dict[str, np.ndarray]:
    """Every stored variable of the analyses, over all steps."""
    with tempfile.TemporaryDirectory() as folder:
        target = target_of(folder, series, body, analyses, metrics)
        anchors = [decompose_step(series, body, step) for step in series.steps]
        for block in target.layout.blocks():
            analyse_block(series, body, target, block, analyses, *anchors)
        return stored(target)


def target_of(
    folder: str, series: Any, body: NetworkLayout, analyses: Sequence[str], metrics: Mapping[str, Metric] = TOTAL
) -> Target:
    """Where results go in a folder."""
    return Target(folder=folder, layout=run_layout(body, series.steps, analyses, metrics, {"run_id": "test"}))


def stored(target: Target) -> dict[str, np.ndarray]:
    """What is stored of every variable; NaN for a count that is missing, as xarray has it."""
    parts = {
        f"{target.folder}/{part.name}": frozenset(target.layout.variables) for part in parts_in(names(target.folder))
    }
    row = Row(key="test", status="done", layout_of=lambda: target.layout, coordinates={}, parts=parts)
    declared = target.layout.variables
    return {
        name: masked(array, declared[name].attributes.get("_FillValue"))
        for name, array in row_values(row, None).items()
    }


def masked(values: np.ndarray, fill: Any) -> np.ndarray:
    """The values, NaN where the fill value stands."""
    return values if fill is None else np.where(values == fill, np.nan, values)


def one(weights: Mapping[str, Tensor], *analyses: str, pairs: Sequence[LayerPair] = ()) -> dict[str, np.ndarray]:
    """The variables of a single checkpoint, without the dimension `step`."""
    body = body_of(weights, pairs)
    found = analysed(HandMade({7: weights}), body, analyses)
    dims = run_layout(body, (7,), analyses, TOTAL, {}).variables
    return {n: a.take(0, axis=dims[n].dims.index("step")) if "step" in dims[n].dims else a for n, a in found.items()}


def two(current: Mapping[str, Tensor], final: Mapping[str, Tensor], *analyses: str) -> dict[str, np.ndarray]:
    """The variables of the first of two checkpoints."""
    body = body_of(current)
    found = analysed(HandMade({7: current, 8: final}), body, analyses)
    dims = run_layout(body, (7, 8), analyses, TOTAL, {}).variables
    return {n: a.take(0, axis=dims[n].dims.index("step")) for n, a in found.items() if "step" in dims[n].dims}


def seeded(seed: int, *shape: int) -> Tensor:
    """Standard normal entries."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))
