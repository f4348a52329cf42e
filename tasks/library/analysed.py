"""Analyses models and series of checkpoints in this process, without starting or writing anything."""

import contextlib
import glob
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, cast

from specdyn.models.spec.checks import require, require_known
from specdyn.storage.access.objects import StoreError, normalise
from specdyn.storage.access.reading import normalise_source
from specdyn.storage.foreign.find import find_checkpoints
from specdyn.storage.foreign.found import Search
from specdyn.storage.foreign.steps import PICKLED, SAFE
from specdyn.storage.foreign.weights import Choice
from specdyn.tasks.foreign.labels import Labels, labels_of, require_alike
from specdyn.tasks.foreign.metrics import Logged, Metrics, metrics_of
from specdyn.tasks.foreign.names import TRANSPOSED
from specdyn.tasks.foreign.network.layout import Look
from specdyn.tasks.foreign.network.tables import PairTable
from specdyn.tasks.foreign.weights.resolved import ReadSeries
from specdyn.tasks.library.measuring import measure
from specdyn.tasks.library.model import ModelSeries, look_of_module, series_of_module
from specdyn.tasks.library.progress import counted
from specdyn.tasks.plan.series import choose
from specdyn.tasks.plan.series_cube import series_attributes, told_apart, told_by_labels
from specdyn.tasks.plan.sources import Source, logged_of, require_one_unit
from specdyn.tasks.spectra.network_layout import NetworkLayout

if TYPE_CHECKING:
    import xarray as xr
    from torch import Tensor, nn

    from specdyn.tasks.foreign.labels import Label

    Given: TypeAlias = "nn.Module | Mapping[str, Tensor] | str | os.PathLike[str]"

TAKES = "a model, a state dict, a file, a folder, a URL, a pattern of paths, or several of these in a list or by name"


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """A series, its layers, and the name of its run."""

    label: str
    series: ModelSeries | ReadSeries
    layout: NetworkLayout
    labels: Labels = Labels()  # noqa: RUF009 - frozen
    logged: Logged = Logged()  # noqa: RUF009 - frozen
    metrics: Metrics = Metrics()  # noqa: RUF009 - frozen

    @property
    def unit(self) -> str:
        """The unit of its steps."""
        return self.series.found.unit if isinstance(self.series, ReadSeries) else "steps"


def analyse(
    what: "Given | Sequence[Given] | Mapping[str, Given]",
    analyses: Sequence[str] | None = None,
    *,
    heads: int = 0,
    pairs: Sequence[tuple[str, str]] = (),
    transposed: str = TRANSPOSED,
    pattern: str = "",
    steps_per_epoch: int = 0,
    revisions: str = "",
    key: str = "",
    part: str = "",
    weights: str = "",
    labels: "Mapping[str, Label] | Mapping[str, Mapping[str, Label]] | None" = None,
    metrics: str = "",
    progress: bool = True,
) -> "xr.DataTree":
    """Analyse models, files or series of checkpoints in this process, and return their cube.

    `what` is a `torch.nn.Module`, a state dict, a file, a folder, `s3://...`, `hf://organisation/name`, a pattern such
    as `"runs/*/checkpoint-*"`, or several of these in a list or by name; each is one run of the cube. Checkpoints on
    disk are the steps of their series, a model in memory is step 0. `analyses` defaults to all that need no data; the
    other arguments are the options of `specdyn analyse`. `labels` are settings of all runs, or by run name those of
    each; `metrics` is a file, or a folder of files, with logged metrics. Without them, files next to the checkpoints
    are used: `labels.json`, `metrics.jsonl` and so on. Shows progress if standard error is a terminal.

    Returns the groups that `specdyn.open` returns: `layers` (run, layer, step, ...), `pairs`, `attention`, `metrics`;
    float32, NaN beyond a layer's rank. Decomposes each matrix once. Does not change the models, draw from torch's
    generator, or write anything. ValueError or StoreError says what cannot be analysed and why.
    """
    from specdyn.storage.cube_in_memory import cube_in_memory
    from specdyn.tasks.library.accessor import register
    from specdyn.tasks.spectra.facts import RUN_FACTS

    register()
    names = choose(analyses)
    look = Look(heads=heads, transposed=transposed, pairs=PairTable(lines=tuple(pairs), source="pairs"))
    search = Search(
        pattern=pattern,
        per_epoch=steps_per_epoch,
        revisions=revisions,
        choice=Choice(key=key, weights=weights, part=part),
    )
    subjects = _with_training(list(_subjects(what, search, look)), labels or {}, metrics)
    read = [Source(one.series, one.layout, search, look) for one in subjects if isinstance(one.series, ReadSeries)]
    if read:
        require_one_unit(read)
    described = {one.label: one for one in subjects}
    rows, values = [], []
    total = sum(len(one.layout.matrices) * len(one.series.steps) for one in subjects)
    with counted("matrices", total, progress) as advance:
        for subject, row in zip(subjects, told_by_labels(described), strict=True):
            layout, measured = measure(subject.series, subject.layout, names, advance)
            layout = replace(layout, variables={**layout.variables, **subject.metrics.variables})
            values.append({**measured, **subject.metrics.values})
            rows.append(
                replace(
                    row,
                    status="done",
                    layout_of=lambda layout=layout: layout,  # type: ignore[misc]
                    provenance={"source": subject.series.name},
                )
            )
    attributes = series_attributes(described, subjects[0].unit)
    return cube_in_memory(rows, values, RUN_FACTS, {"title": ", ".join(one.label for one in subjects), **attributes})


def _subjects(what: Any, search: Search, look: Look) -> Iterator[Subject]:
    """Every requested run, with a unique name."""
    if isinstance(what, Mapping) and what and not _is_state_dict(what):
        for name, one in what.items():
            subjects = list(_subjects(one, search, look))
            if len(subjects) == 1:
                yield replace(subjects[0], label=str(name))
            else:
                yield from (replace(each, label=f"{name}/{each.label}") for each in subjects)
    elif isinstance(what, str | os.PathLike):
        series = list(_series_at(os.fspath(what), search))
        for label, one in zip(told_apart([one.name for one in series]), series, strict=True):
            yield Subject(label=label, series=one, layout=one.layout(look))
    elif isinstance(what, Sequence):
        yield from _of_several(what, search, look)
    else:
        yield _in_memory(what, look)


def _with_training(subjects: Sequence[Subject], labels: Mapping[str, Any], metrics: str) -> list[Subject]:
    """The runs with labels and metrics, from the call or from files next to their checkpoints."""
    names = [one.label for one in subjects]
    by_run = bool(labels) and all(isinstance(of, Mapping) for of in labels.values())
    for name in labels if by_run else ():
        require_known("run in labels", name, names)
    read = [one for one in subjects if isinstance(one.series, ReadSeries)]
    require(not metrics or bool(read), "metrics", metrics, "none, as no checkpoints on disk are analysed")
    found = []
    for one in subjects:
        given = labels.get(one.label, {}) if by_run else labels
        series = one.series if isinstance(one.series, ReadSeries) else None
        logged = logged_of(series, normalise(metrics) if metrics else "", len(read) == 1) if series else Logged()
        found.append(replace(one, labels=labels_of(series.found if series else None, given), logged=logged))
    require_alike({one.label: one.labels for one in found})
    variables = metrics_of([one.logged for one in found], {name for one in found for name in one.labels.values})
    return [replace(one, metrics=of) for one, of in zip(found, variables, strict=True)]


def _of_several(what: Sequence[Any], search: Search, look: Look) -> Iterator[Subject]:
    require(len(what) > 0, "what", list(what), "at least one model or place")
    subjects = [subject for one in what for subject in _subjects(one, search, look)]
    read = [one for one in subjects if isinstance(one.series, ReadSeries)]
    apart = iter(told_apart([one.series.name for one in read]) if read else ())
    labels = [next(apart) if isinstance(one.series, ReadSeries) else one.label for one in subjects]
    counted = {label: labels.count(label) for label in labels}
    for i, (label, subject) in enumerate(zip(labels, subjects, strict=True)):
        yield replace(subject, label=label if counted[label] == 1 else f"{label}-{i + 1}")


def _in_memory(what: Any, look: Look) -> Subject:
    from torch import nn

    if isinstance(what, nn.Module):
        label = type(what).__name__
        series = series_of_module(what, label)
        try:
            return Subject(label=label, series=series, layout=series.layout(look_of_module(what, look)))
        except ValueError:
            if look.heads:
                raise
            # Its attention modules' number of heads need not apply to all projections.
            return Subject(
                label=label, series=series, layout=series.layout(replace(look_of_module(what, look), heads=0))
            )
    if isinstance(what, Mapping) and _is_state_dict(what):
        series = ModelSeries(name="state dict", tensors=cast("Mapping[str, Tensor]", what), config={})
        return Subject(label="state dict", series=series, layout=series.layout(look))
    raise TypeError(f"what={type(what).__name__!r} is not allowed: expected {TAKES}")


def _is_state_dict(what: Mapping[Any, Any]) -> bool:
    from torch import Tensor

    return bool(what) and all(isinstance(value, Tensor) for value in what.values())


def _series_at(place: str, search: Search) -> Iterator[ReadSeries]:
    """The series at a path or URL; for a pattern, the checkpoints of each folder that it matches."""
    matches = [] if "://" in place or os.path.exists(place) else sorted(glob.glob(os.path.expanduser(place)))
    if not matches:
        yield ReadSeries(find_checkpoints(place, search=search), search.choice.weights)
        return
    folders: dict[str, list[str]] = {}
    for match in matches:
        folders.setdefault(os.path.dirname(match), []).append(os.path.basename(match))
    for folder, names in folders.items():
        yield from _matched(folder, names, search)


def _matched(folder: str, names: Sequence[str], search: Search) -> Iterator[ReadSeries]:
    """The checkpoints of these names as one series if the folder is a series, else one series each."""
    is_file = any(name.endswith((*SAFE, *PICKLED)) for name in names)
    whole = None
    if len(names) > 1 or is_file:
        with contextlib.suppress(ValueError, StoreError):  # of folders of runs, each is looked at by itself
            whole = find_checkpoints(folder or ".", search=search)
    chosen = [one for one in whole.checkpoints if Path(one.name).parts[0] in names] if whole else []
    if whole and chosen and len({Path(one.name).parts[0] for one in chosen}) == len(chosen):
        yield ReadSeries(replace(whole, checkpoints=tuple(chosen)), search.choice.weights)
        return
    for name in names:
        found = find_checkpoints(normalise_source(os.path.join(folder, name)), search=search)
        yield ReadSeries(found, search.choice.weights)
