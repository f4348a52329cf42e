"""What is wrong with a series of checkpoints, told before anything is analysed."""

import dataclasses
import hashlib
import itertools
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from models.matrices import Entry, entry
from tasks.anatomy import Anatomy
from tasks.foreign import ForeignSeries

Severity = Literal["error", "warning", "note"]

EDGE_MARGIN = 1.25
"""How far above the largest value of a random matrix the first singular value of an untrained layer may lie."""
LEAST_SIDE = 16
"""Rows and columns from which a layer's first singular value tells chance from training."""
POWER_STEPS = 30


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that is not as it should be; errors stop the analysis."""

    severity: Severity
    steps: tuple[int, ...]
    tensor: str
    """The tensor concerned; empty for whole checkpoints."""
    what: str
    """What came, and what was expected."""
    advice: str

    @property
    def cells(self) -> tuple[str, ...]:
        """What stands under HEADINGS."""
        steps = ", ".join(map(str, self.steps[:6])) + (", ..." if len(self.steps) > 6 else "")
        return self.severity, steps, self.tensor or "-", self.what, self.advice


HEADINGS = ("severity", "steps", "tensor", "what", "advice")


def audit(series: ForeignSeries, body: Anatomy) -> tuple[Finding, ...]:
    """Everything found: in the steps, in shapes and types, and, reading each tensor once, in the values.

    Duplicates are told by the bytes of the analysed tensors. Holds one tensor at a time.
    """
    findings = [*in_steps(series), *in_shapes(series, body)]
    changed = {(finding.steps[0], finding.tensor) for finding in findings if finding.severity == "error"}
    digests: dict[int, str] = {}
    for step in series.steps:
        weights, digest = series.weights(step), hashlib.sha256()
        ratios: list[float] = []
        for layer in body.layers:
            if (step, layer.parameter) in changed:
                continue
            w = weights[layer.parameter]
            digest.update(w.contiguous().numpy().data)
            findings += in_values(w, step, layer.parameter)
            if step == series.steps[0]:
                ratios += edge_ratio(layer.of({layer.parameter: w}))
        digests[step] = digest.hexdigest()
        findings += looks_trained(ratios, step)
    return (*findings, *duplicates(digests))


def in_steps(series: ForeignSeries) -> list[Finding]:
    """Steps missing from a regular grid, and checkpoints written in another order than their steps."""
    findings, steps = [], series.steps
    gaps = Counter(b - a for a, b in itertools.pairwise(steps))
    usual, count = gaps.most_common(1)[0] if gaps else (0, 0)
    # Early checkpoints may lie closer: only gaps of several usual ones are holes.
    holes = [(a, b) for a, b in itertools.pairwise(steps) if b - a > usual and (b - a) % usual == 0]
    if holes and count >= max(3, 0.5 * len(steps)):
        missing = tuple(step for a, b in holes for step in range(a + usual, b, usual))
        what = f"{len(missing)} steps are missing of one every {usual}"
        findings.append(_finding("warning", missing, what, "rates of change across the hole span more steps"))
    written = [(c.written, c.step) for c in series.found.checkpoints if not math.isnan(c.written)]
    late = tuple(b for (t, _), (u, b) in itertools.pairwise(written) if u < t - 1)
    if late:
        what = "written before the checkpoint of a smaller step"
        findings.append(_finding("note", late, what, "check the steps in the names, unless the files were copied"))
    return findings


def in_shapes(series: ForeignSeries, body: Anatomy) -> list[Finding]:
    """Layers that have another shape, or are not there, at a later checkpoint; new ones; types that change."""
    findings: list[Finding] = []
    expected = {e.parameter: e.shape for e in body.entries if not e.skipped}
    first = series.weights(series.steps[0]).dtypes
    for step in series.steps[1:]:
        weights = series.weights(step)
        for name, shape in expected.items():
            found = weights.shapes.get(name)
            if found != shape:
                came = "is not there" if found is None else f"has shape {found}"
                what = f"{came}, expected {shape} as at step {series.steps[0]}"
                findings.append(
                    _finding("error", (step,), what, "leave this checkpoint out, or split the series", name)
                )
            elif weights.dtypes[name] != first[name]:
                what = f"stored as {weights.dtypes[name]}, {first[name]} at step {series.steps[0]}"
                findings.append(
                    _finding("note", (step,), what, "small singular values change with the precision", name)
                )
        known = {e.parameter for e in body.entries}
        for entry_ in _new_layers(weights.shapes, known, weights.dtypes):
            what = f"a layer {entry_.shape} that step {series.steps[0]} does not have"
            findings.append(_finding("warning", (step,), what, "it is not analysed", entry_.parameter))
    return findings


def _new_layers(
    shapes: Mapping[str, tuple[int, ...]], known: set[str], dtypes: Mapping[str, torch.dtype]
) -> list[Entry]:
    return [
        entry(name, shape)
        for name, shape in shapes.items()
        if len(shape) >= 2 and name not in known and dtypes[name].is_floating_point
    ]


def in_values(w: Tensor, step: int, name: str) -> list[Finding]:
    """NaN and infinity."""
    bad = int((~torch.isfinite(w)).sum())
    if not bad:
        return []
    what = f"{bad} of {w.numel()} entries are NaN or infinite"
    return [_finding("error", (step,), what, "leave this checkpoint out; the run diverged there", name)]


def edge_ratio(w_MN: Tensor) -> list[float]:
    """s_1 over that of a random matrix with the same spread of entries, sigma (sqrt M + sqrt N); none if too small."""
    rows, columns = w_MN.shape
    sigma = float(w_MN.std())
    if min(rows, columns) < LEAST_SIDE or not 0 < sigma < math.inf:
        return []
    draw = torch.Generator().manual_seed(0)
    v = torch.randn(columns, generator=draw)
    for _ in range(POWER_STEPS):
        v = w_MN.mT @ (w_MN @ v)
        v = v / torch.linalg.vector_norm(v).clamp_min(torch.finfo(v.dtype).tiny)
    largest = float(torch.linalg.vector_norm(w_MN @ v))
    return [largest / (sigma * (math.sqrt(rows) + math.sqrt(columns)))]


def looks_trained(ratios: Sequence[float], step: int) -> list[Finding]:
    """A first checkpoint whose layers have first singular values that initialisation does not give.

    Told where half of the layers lie above the edge of a random matrix by a quarter. Layers that are small, or were
    trained little, do not show; initialisations with structure of their own (sparse, low rank) may.
    """
    above = sum(ratio > EDGE_MARGIN for ratio in ratios)
    if not ratios or 2 * above < len(ratios):
        return []
    what = (
        f"the first checkpoint looks trained: in {above} of {len(ratios)} layers s_1 is more than "
        f"{EDGE_MARGIN:g} times that of a random matrix (median {np.median(ratios):.2f})"
    )
    advice = "comparisons with the first checkpoint are not comparisons with initialisation"
    return [_finding("warning", (step,), what, advice)]


def duplicates(digests: Mapping[int, str]) -> list[Finding]:
    """Checkpoints of different steps with the same content."""
    same: dict[str, list[int]] = {}
    for step, digest in digests.items():
        same.setdefault(digest, []).append(step)
    what = "the same weights under different steps"
    return [
        _finding("warning", tuple(steps), what, "leave out all but one, unless training stood still")
        for steps in same.values()
        if len(steps) > 1
    ]


def _finding(severity: Severity, steps: tuple[int, ...], what: str, advice: str, tensor: str = "") -> Finding:
    return Finding(severity=severity, steps=steps, tensor=tensor, what=what, advice=advice)


def as_plain(findings: Sequence[Finding]) -> list[dict[str, object]]:
    """The findings as JSON keeps them."""
    return [{**dataclasses.asdict(finding), "steps": list(finding.steps)} for finding in findings]
