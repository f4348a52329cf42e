"""Finds layers whose shape or type changes between checkpoints, and tensors that appear or disappear."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch

from specdyn.storage.foreign.weights import ForeignWeights
from specdyn.tasks.foreign.findings import Finding, finding, some
from specdyn.tasks.spectra.network_layout import NetworkLayout

Shape = tuple[int, ...]


@dataclass(slots=True)
class Shapes:
    """Collects shapes and types by step, and compares them."""

    layout: NetworkLayout
    of: dict[int, tuple[Mapping[str, Shape], Mapping[str, torch.dtype]]] = field(default_factory=dict)

    def add(self, step: int, weights: ForeignWeights) -> None:
        """Add the shapes of a checkpoint."""
        self.of[step] = dict(weights.shapes), dict(weights.dtypes)

    def findings(self) -> list[Finding]:
        """Differences from the layout or from the first checkpoint; each layer is reported once."""
        if not self.of:
            return []
        steps, found = list(self.of), list[Finding]()
        layers = {entry.parameter: entry.shape for entry in self.layout.entries if not entry.skipped}
        for name, shape in layers.items():
            found += self._of_layer(name, shape, steps)
        return found + self._of_others(steps, layers)

    def _of_layer(self, name: str, shape: Shape, steps: Sequence[int]) -> list[Finding]:
        there = {step: self.of[step][0][name] for step in steps if name in self.of[step][0]}
        found: list[Finding] = []
        if missing := [step for step in steps if step not in there]:
            what = f"is missing, but exists at {_count(there)}"
            found.append(finding("warning", missing, what, "NaN at these steps", name))
        for other in dict.fromkeys(there.values()):
            if other != shape:
                at = [step for step, one in there.items() if one == other]
                what = f"has shape {other}, expected {shape} as at {_count([s for s in there if there[s] == shape])}"
                found.append(finding("warning", at, what, "NaN at these steps; split the series for both", name))
        types = {step: self.of[step][1][name] for step in there}
        usual = next(iter(types.values()), None)
        for other_type in dict.fromkeys(types.values()):
            if other_type != usual:
                at = [step for step, one in types.items() if one == other_type]
                what = f"stored as {other_type}, {usual} at step {next(iter(types))}"
                found.append(finding("note", at, what, "small singular values change with the precision", name))
        return found

    def _of_others(self, steps: Sequence[int], layers: Mapping[str, Shape]) -> list[Finding]:
        """Findings about tensors that are not layers, and layers missing from the layout."""
        known = {entry.parameter for entry in self.layout.entries}
        found: list[Finding] = []
        first: dict[str, Shape] = {}
        others: dict[int, list[str]] = {}
        start = next(iter(steps), 0)
        for step in steps:
            shapes, dtypes = self.of[step]
            for name, shape in shapes.items():
                if len(shape) > 1 and name not in known and dtypes[name].is_floating_point and name not in first:
                    what = f"a layer {shape} that is not in the layout"
                    found.append(finding("warning", (step,), what, "it is not analysed", name))
            differing = {name for name, _ in first.items() ^ shapes.items()} if first or step != start else set()
            first = first or dict(shapes)
            if left := sorted(differing - layers.keys() - {f.tensor for f in found}):
                others[step] = left
        for names in dict.fromkeys(tuple(left) for left in others.values()):
            at = [step for step, left in others.items() if tuple(left) == names]
            what = f"{len(names)} tensors that are not layers differ in shape or exist at only one of the steps: "
            advice = f"not analysed; check that step {start} belongs to the same network"
            found.append(finding("note", at, what + some(names, 4), advice))
        return found


def _count(steps: Sequence[int] | Mapping[int, object]) -> str:
    listed = list(steps)
    return f"step {listed[0]}" if len(listed) == 1 else f"{len(listed)} other checkpoints"
