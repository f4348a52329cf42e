"""What is wrong with a series of checkpoints, told before anything is analysed."""

import dataclasses
import hashlib
import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from specdyn.storage.foreign.weights import ForeignWeights, as_bytes, stripped
from specdyn.storage.schema import OutOfRange
from specdyn.tasks.foreign.names import BUFFERS
from specdyn.tasks.foreign.series import ForeignSeries
from specdyn.tasks.spectra.decomposition import scaled
from specdyn.tasks.spectra.network_layout import NetworkLayout

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
        return self.severity, steps or "-", self.tensor or "-", self.what, self.advice


HEADINGS = ("severity", "steps", "tensor", "what", "advice")


def audit(series: ForeignSeries, layout: NetworkLayout) -> tuple[Finding, ...]:
    """Everything found: in the steps, in shapes and types, and, reading each tensor once, in the values.

    Duplicates are told by names, shapes and values of all tensors. Holds one tensor at a time.
    """
    findings = in_steps(series)
    layers = {layer.parameter: layer for layer in layout.layers}
    digests: dict[int, str] = {}
    first = series.weights(series.steps[0])
    for step in series.steps:
        weights = first if step == series.steps[0] else series.weights(step)
        findings += in_shapes(first, weights, layout, step, series.steps[0])
        digest, ratios = hashlib.sha256(), list[float]()
        for name, shape in weights.shapes.items():
            digest.update(f"{name} {shape} ".encode())
            try:
                w = weights[name]
            except OutOfRange as error:
                digest.update(as_bytes(weights.read(name)))
                findings += out_of_range(error, step, name, analysed=name in layers)
                continue
            digest.update(as_bytes(w))
            findings += in_values(w, step, name, analysed=name in layers)
            if step == series.steps[0] and name in layers:
                ratios += edge_ratio(layers[name].of({name: w}))
        digests[step] = digest.hexdigest()
        findings += looks_trained(ratios, step)
    return (*findings, *duplicates(digests))


def in_steps(series: ForeignSeries) -> list[Finding]:
    """Steps missing from a grid, names of one step, and checkpoints written in another order than their steps."""
    findings = []
    if missing := missing_steps(series.steps):
        what = f"{series.found.unit} missing of a grid that goes on after them: {len(missing)}"
        findings.append(_finding("warning", missing, what, "rates of change across the hole span more steps"))
    for name, why in series.found.skipped:
        if name in series.found.repeated:
            findings.append(_finding("note", (), f"{name} has {why}", "it is left out"))
    written = [(c.written, c.step) for c in series.found.checkpoints if not math.isnan(c.written)]
    late = tuple(b for (t, _), (u, b) in itertools.pairwise(written) if u < t - 1)
    if late:
        what = "written before the checkpoint of a smaller step"
        findings.append(_finding("note", late, what, "check the steps in the names, unless the files were copied"))
    return findings


def missing_steps(steps: Sequence[int]) -> tuple[int, ...]:
    """Steps that an even grid, or powers of one whole number, would have; empty where there is no clear grid."""
    positive = [step for step in steps if step > 0]
    if missing := _holes(steps):
        return missing
    base = min((b // a for a, b in itertools.pairwise(positive)), default=0)
    if base < 2:
        return ()
    exponents = [round(math.log(step / positive[0], base)) for step in positive]
    if [positive[0] * base**e for e in exponents] != positive:
        return ()
    return tuple(positive[0] * base**e for e in _holes(exponents))


def _holes(steps: Sequence[int]) -> tuple[int, ...]:
    """What is missing between equal gaps: wider ones count only where the usual gap comes before and after them.

    So a grid that widens for good, or ends early, has no holes; nor has one with a hole for fewer than two usual gaps.
    """
    gaps = [b - a for a, b in itertools.pairwise(steps)]
    usual, holes = 0, list[tuple[int, int]]()
    for i, gap in enumerate(gaps):
        if usual and gap > usual and gap % usual == 0 and usual in gaps[i + 1 :]:
            holes.append((i, usual))
        else:
            usual = gap
    clear = [(i, u) for i, u in holes if gaps.count(u) >= max(3, 2 * sum(other == u for _, other in holes))]
    return tuple(step for i, u in clear for step in range(steps[i] + u, steps[i + 1], u))


def in_shapes(
    first: ForeignWeights, weights: ForeignWeights, layout: NetworkLayout, step: int, start: int
) -> list[Finding]:
    """Layers with another shape or type than in the first checkpoint, missing and new ones; then the other tensors."""
    was, now = stripped(first.shapes), stripped(weights.shapes)
    if set(was) != set(now) and set(was.values()) == set(now.values()):
        example = min(set(now) - set(was))
        what = f"names differ from those of step {start} by a prefix alone, as in {example}"
        advice = "save the weights of the module without its wrapper, or split the series"
        return [_finding("error", (step,), what, advice)]
    findings: list[Finding] = []
    layers = {e.parameter: e.shape for e in layout.entries if not e.skipped}
    for name, shape in layers.items():
        actual = weights.shapes.get(name)
        if actual != shape:
            came = "is not there" if actual is None else f"has shape {actual}"
            what = f"{came}, expected {shape} as at step {start}"
            findings.append(_finding("error", (step,), what, "leave this checkpoint out, or split the series", name))
        elif weights.dtypes[name] != first.dtypes[name]:
            what = f"stored as {weights.dtypes[name]}, {first.dtypes[name]} at step {start}"
            findings.append(_finding("note", (step,), what, "small singular values change with the precision", name))
    known = {e.parameter for e in layout.entries}
    new = {
        name: shape
        for name, shape in weights.shapes.items()
        if len(shape) >= 2 and name not in known and weights.dtypes[name].is_floating_point
    }
    for name, shape in new.items():
        what = f"a layer {shape} that step {start} does not have"
        findings.append(_finding("warning", (step,), what, "it is not analysed", name))
    others = sorted({name for name, _ in first.shapes.items() ^ weights.shapes.items()} - {*layers, *new})
    if others:
        what = f"{len(others)} tensors that are no layers differ in shape or are there at one of the steps: "
        advice = f"not analysed; check that step {start} is of the same network"
        findings.append(_finding("note", (step,), what + ", ".join(others[:4]), advice))
    return findings


def in_values(w: Tensor, step: int, name: str, analysed: bool = True) -> list[Finding]:
    """NaN and infinity: an error in a layer, a warning elsewhere; masks may hold infinity."""
    if not (w.is_floating_point() or w.is_complex()):
        return []
    bad = ~torch.isfinite(w) if analysed or not BUFFERS.search(name) else torch.isnan(w)
    count = int(bad.sum())
    if not count:
        return []
    what = f"{count} of {w.numel()} entries are NaN or infinite"
    if not analysed:
        return [_finding("warning", (step,), what, "not analysed, but the run may have diverged there", name)]
    return [_finding("error", (step,), what, "leave this checkpoint out; the run diverged there", name)]


def out_of_range(error: OutOfRange, step: int, name: str, analysed: bool) -> list[Finding]:
    """Numbers that float32 cannot hold: an error in a layer; elsewhere, as in masks, nothing is made of them."""
    if not analysed:
        return []
    return [_finding("error", (step,), str(error), "scale the weights, or leave this checkpoint out", name)]


def edge_ratio(w_MN: Tensor) -> list[float]:
    """s_1 over that of a random matrix with the same spread of entries, sigma (sqrt M + sqrt N); none if too small."""
    rows, columns = w_MN.shape
    w_MN = scaled(w_MN)[0]  # squares of very large or small entries leave float32
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
