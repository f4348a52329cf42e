"""Audits a series of checkpoints before it is analysed."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from specdyn.models.nets.matrices import Matrix
from specdyn.storage.access.objects import StoreError
from specdyn.storage.checkpoints import DamagedCheckpoint
from specdyn.storage.foreign.weights import ForeignWeights
from specdyn.storage.schema import OutOfRange
from specdyn.tasks.foreign.findings import HEADINGS, SEVERITIES, Finding, Severity, as_plain, finding, some
from specdyn.tasks.foreign.jumps import jumps
from specdyn.tasks.foreign.names import BUFFERS
from specdyn.tasks.foreign.order import in_steps, missing_steps
from specdyn.tasks.foreign.readings import Reading, reading
from specdyn.tasks.foreign.repeats import repeated
from specdyn.tasks.foreign.series import ForeignSeries
from specdyn.tasks.foreign.shapes import Shapes
from specdyn.tasks.foreign.untrained import EDGE_MARGIN, edge_ratio, looks_trained
from specdyn.tasks.spectra.network_layout import NetworkLayout

__all__ = ["EDGE_MARGIN", "HEADINGS", "Finding", "Severity", "as_plain", "audit", "edge_ratio", "missing_steps"]

Layers = Mapping[str, Sequence[Matrix]]
"""The analysed matrices, by their tensor."""


def audit(series: ForeignSeries, layout: NetworkLayout) -> tuple[Finding, ...]:
    """All findings: in names and files, in shapes and types, and in the values (reads each tensor once).

    An unreadable checkpoint is an error that names its file; the others are still examined. Holds one tensor at a
    time, and a digest, the norm and a sample of each. Errors come first, then warnings.
    """
    findings = in_steps(series)
    layers: dict[str, list[Matrix]] = {}
    for layer in layout.layers:
        layers.setdefault(layer.parameter, []).append(layer)
    shapes = Shapes(layout)
    readings: dict[int, dict[str, Reading]] = {}
    files: dict[int, Mapping[str, str]] = {}
    values: list[Finding] = []
    for step in series.steps:
        try:
            weights = series.weights(step)
            found, now = in_values_of(weights, step, layers, first=not readings and step == series.steps[0])
        except (DamagedCheckpoint, StoreError) as error:
            values.append(finding("error", (step,), str(error), "leave it out with --skip-damaged, or copy it again"))
            continue
        values += found
        shapes.add(step, weights)
        readings[step], files[step] = now, weights.files
    beside = in_files(series, list(readings))
    apart = repeated(readings, list(layers), files)
    every = [*findings, *beside, *shapes.findings(), *values, *apart, *jumps(readings, list(layers))]
    return tuple(sorted(every, key=lambda one: SEVERITIES.index(one.severity)))


def in_values_of(
    weights: ForeignWeights, step: int, layers: Layers, first: bool
) -> tuple[list[Finding], dict[str, Reading]]:
    """Findings in the numbers of a checkpoint, and readings of its tensors; reads each once."""
    findings: list[Finding] = []
    readings: dict[str, Reading] = {}
    ratios: list[float] = []
    for name in weights.shapes:
        try:
            w = weights[name]
        except OutOfRange as error:
            readings[name] = reading(weights.read(name))
            findings += out_of_range(error, step, name, analysed=name in layers)
            continue
        readings[name] = reading(w)
        findings += in_values(w, step, name, analysed=name in layers)
        if first:
            ratios += [ratio for layer in layers.get(name, ()) for ratio in edge_ratio(layer.of({name: w}))]
    return findings + looks_trained(ratios, step), readings


def in_files(series: ForeignSeries, steps: Sequence[int]) -> list[Finding]:
    """Notes on choices among several sets in the files, and on skipped entries; each is reported once."""
    findings = [finding("note", (), told, "") for told in series.found.told]
    passed: dict[str, list[int]] = {}
    sets: dict[str, list[int]] = {}
    for checkpoint in series.found.checkpoints:
        if checkpoint.step not in steps:
            continue
        weights = checkpoint.weights()
        if over := weights.passed_over:
            kinds = [f"{name} ({why})" for name, why in over.items()]
            passed.setdefault(f"skipped in the file: {some(kinds, 4)}", []).append(checkpoint.step)
        if len(weights.sets) > 1 and not checkpoint.choice.key:
            taken = [name or "(the file itself)" for name, read in weights.sets.items() if read]
            others = [name or "(the file itself)" for name, read in weights.sets.items() if not read]
            what = f"state dicts in this file: {', '.join(taken)}, which is read, and {some(others, 4)}"
            sets.setdefault(what, []).append(checkpoint.step)
    findings += [finding("note", at, what, "not analysed") for what, at in passed.items()]
    return findings + [finding("note", at, what, "choose with --weights or --key") for what, at in sets.items()]


def in_values(w: Tensor, step: int, name: str, analysed: bool = True) -> list[Finding]:
    """NaN and infinity: an error in a layer, a warning elsewhere; masks and other constants may hold infinity."""
    if not (w.is_floating_point() or w.is_complex()):
        return []
    finite = torch.isfinite(w)
    bad = torch.isnan(w) if not analysed and (BUFFERS.search(name) or _is_mask(w, finite)) else ~finite
    count = int(bad.sum())
    if not count:
        return []
    what = f"{count} of {w.numel()} entries are NaN or infinite"
    if not analysed:
        return [finding("warning", (step,), what, "not analysed, but the run may have diverged there", name)]
    return [finding("error", (step,), what, "leave this checkpoint out; the run diverged there", name)]


def _is_mask(w: Tensor, finite: Tensor) -> bool:
    """Whether all finite numbers are the same, as in masks."""
    rest = w[finite]
    return not rest.numel() or bool((rest == rest[0]).all())


def out_of_range(error: OutOfRange, step: int, name: str, analysed: bool) -> list[Finding]:
    """Numbers that float32 cannot hold: an error in a layer, ignored elsewhere, for example in masks."""
    if not analysed:
        return []
    return [finding("error", (step,), str(error), "scale the weights, or leave this checkpoint out", name)]
