"""Prints lists: experiments, presets, analyses, figures, data sets, and the studies and runs of a store."""

import os
from collections.abc import Sequence
from typing import TypeVar

from specdyn.flows.cli.options import out
from specdyn.flows.cli.terminal import span_of, table
from specdyn.models.datasets.base import DATASETS, Dataset, RemoteFile
from specdyn.models.experiments.base import EXPERIMENTS, read_spec
from specdyn.models.families.base import FAMILIES
from specdyn.models.plugins.kinds import Kind, broken, get, names, origin, usable
from specdyn.models.spec.checks import require_known
from specdyn.models.spec.run_spec import RunSpec, as_text, hyperparameters
from specdyn.models.wording import plural, size
from specdyn.storage.access import objects
from specdyn.storage.checkpoints import read_manifest
from specdyn.storage.datasets import DataManifest, read_data_manifest
from specdyn.storage.places import Store
from specdyn.storage.probe import Check, existing_store
from specdyn.storage.studies import cube_of, no_results, read_study, study_names
from specdyn.tasks.figures.offered.registry import FIGURES
from specdyn.tasks.figures.summary import SUMMARY, headings, read_summary
from specdyn.tasks.identity import computed_on, find_run, known_results_id
from specdyn.tasks.ledger.entries import read_entries
from specdyn.tasks.ledger.summary import HEADINGS, ledger_rows
from specdyn.tasks.plan.tables import duration
from specdyn.tasks.spectra.analysis import ANALYSES

T = TypeVar("T")


def list_experiments() -> None:
    """Print the experiments with their presets."""
    rows = [(e.name, e.title, ", ".join(e.presets)) for e in _listed(EXPERIMENTS)]
    _table_of(EXPERIMENTS, "Experiments", ("name", "what it is", "presets"), rows)


def list_presets(experiment: str = "") -> None:
    """Print the presets of an experiment, or of all, with their grids."""
    if experiment:
        require_known("experiment", experiment, names(EXPERIMENTS))
    rows = [
        (
            e.name,
            key,
            preset.about,
            ", ".join(f"{w:g}" for w in preset.weight_decays),
            ", ".join(map(str, preset.seeds)),
        )
        for e in _listed(EXPERIMENTS)
        if experiment in ("", e.name)
        for key, preset in e.presets.items()
    ]
    _table_of(EXPERIMENTS, "Presets", ("experiment", "preset", "what it is", "weight decays", "seeds"), rows)


def list_analyses() -> None:
    """Print the analyses with their variables."""
    rows = [
        (analysis.name, variable, ", ".join(declared.dims), declared.long_name.format(metric="metric"))
        for analysis in _listed(ANALYSES)
        for variable, declared in analysis.variables.items()
    ]
    _table_of(ANALYSES, "Analyses", ("analysis", "variable", "dimensions", "what it is"), rows)


def list_figures() -> None:
    """Print the figures that can be drawn by name, with the variables that each needs."""
    rows = [(figure.name, figure.title, figure.needs[0], ", ".join(figure.needs[1:])) for figure in _listed(FIGURES)]
    _table_of(FIGURES, "Figures", ("name", "what it shows", "group", "variables"), rows)


def list_families() -> None:
    """Print the families of networks, and the values in config.json that identify them."""
    rows = [(family.name, family.title, ", ".join(family.model_types)) for family in _listed(FAMILIES)]
    _table_of(FAMILIES, "Families", ("name", "what it is", "model_type"), rows)


def _listed(kind: Kind[T]) -> list[T]:
    """The usable declarations of a kind, without logging the others, which the table shows."""
    without = {one.name for one in broken(kind)}
    return [get(kind, name) for name in names(kind) if name not in without]


def _table_of(kind: Kind[T], title: str, headings: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> None:
    """Print rows that begin with a name; with plug-ins, also their location, and why one cannot be used."""
    unusable = broken(kind)
    places = [_short(origin(kind, row[0])) for row in rows]
    if any(places) or unusable:
        empty = [""] * (len(headings) - 2)
        headings = (*headings, "from")
        rows = [*((*row, place) for row, place in zip(rows, places, strict=True))]
        rows += [(one.name, f"cannot be used: {one.why}", *empty, _short(one.place)) for one in unusable]
    table(title, headings, rows)


def _short(place: str) -> str:
    """A path relative to the working folder, if it is below that."""
    return place.removeprefix(f"{os.getcwd()}/")


def list_studies(store: str) -> None:
    """Print the studies of a store: sweeps, lines between runs, tickets, series of other programs' checkpoints."""
    url = existing_store(store)
    records = [record for name, kind in study_names(url) if (record := read_study(url, name, kind))]
    rows = [
        (
            r.name,
            r.kind,
            r.experiment if r.specs else "-",
            r.preset or "-",
            str(len(r.specs) or len(r.sources)),
            cube_of(url, r.name, r.kind),
        )
        for r in records
    ]
    table(f"Studies in {url}", ("name", "kind", "experiment", "preset", "runs", "cube"), rows)


def require_cube(name: str, store: str) -> Store:
    """The store with the sweep or analysed checkpoints of that name; ValueError lists the names in it."""
    url = existing_store(store)
    studies = study_names(url, ("sweep", "series"))
    records = [read_study(url, name, kind) for known, kind in studies if known == name]
    if not any(records):
        raise no_results(name, url, (known for known, _ in studies), what="sweep")
    return url


def show_run(prefix: str, store: str) -> None:
    """Print the spec, the checkpoints and the final results of one run."""
    url = existing_store(store)
    experiment, run_id = find_run(prefix, url)
    manifest = read_manifest(url.run(experiment, run_id))
    if manifest is None:
        raise ValueError(f"run {run_id} of {experiment} is still in training; `specdyn status` shows how far it is")
    spec = read_spec(manifest.spec, experiment)
    if experiment in usable(EXPERIMENTS):
        preset, changed = _nearest_preset(spec)
        table(f"Run {run_id}: what differs from preset {preset}", ("setting", "value", "in the preset"), changed)
    table("All settings", ("setting", "value"), [(k, str(v)) for k, v in hyperparameters(spec).items()])
    if measured := _measured(url, experiment, run_id):
        table("Measured at its end", ("variable", "value"), measured)
    if took := ledger_rows(read_entries(url, experiment, run_id)):
        table("What it took", HEADINGS, took)
    entries = manifest.checkpoints
    total = sum(entry.bytes for entry in entries)
    steps = span_of([entry.step for entry in entries])
    out.print(f"{manifest.status}: {plural(len(entries), 'checkpoint')}, {size(total)}, {steps}")
    if manifest.reason:
        out.print(manifest.reason)
    out.print(f"trained in {duration(manifest.seconds)} on {computed_on(manifest)}")
    out.print(f"checkpoints  {url.run(experiment, run_id).folder}")
    results = known_results_id(manifest)
    if results and objects.names(folder := url.run_results(experiment, results)):
        out.print(f"results      {folder}")


def _nearest_preset(spec: RunSpec) -> tuple[str, list[tuple[str, str, str]]]:
    """The preset nearest to a run, and the differences: name, value, value in the preset."""
    own = {name: as_text(value) for name, value in hyperparameters(spec).items()}
    found = {}
    for name, preset in get(EXPERIMENTS, spec.experiment).presets.items():
        of_preset = {key: as_text(value) for key, value in hyperparameters(preset.spec).items()}
        keys = dict.fromkeys([*own, *of_preset])
        rows = [(key, own.get(key, "-"), of_preset.get(key, "-")) for key in keys]
        found[name] = [row for row in rows if row[1] != row[2]]
    nearest = min(found, key=lambda name: len(found[name]))
    return nearest, found[nearest]


def _measured(store: Store, experiment: str, run_id: str) -> list[tuple[str, str]]:
    """The row of a run in the summary of a sweep's report; empty if there is none."""
    for name, _ in study_names(store, ("sweep",)):
        record, summary = read_study(store, name, "sweep"), read_summary(f"{store.report(name)}/{SUMMARY}")
        if record and record.experiment == experiment and summary:
            for row in summary.rows:
                if row.run_id == run_id:
                    shown = dict(zip(headings(summary.rows), row.cells, strict=True))
                    return [(heading, cell) for heading, cell in shown.items() if cell != run_id]
    return []


def show_datasets(store: Store) -> None:
    """Print every data set, and whether a store has it."""
    rows = [
        (found.name, found.variant, found.title, _fetched(found), found.licence, _prepared(store, found))
        for variants in _listed(DATASETS)
        for found in variants.values()
    ]
    headings = ("name", "variant", "what it is", "download", "licence", "in the store")
    _table_of(DATASETS, f"Data sets in {store}", headings, rows)


def _fetched(dataset: Dataset) -> str:
    remote = [file for file in dataset.files if isinstance(file, RemoteFile)]
    if not remote:
        return "nothing"
    exact = all(file.bytes is not None for file in remote)
    known = [count for file in remote if (count := file.bytes or file.roughly)]
    return f"{'' if exact else 'about '}{size(sum(known))}" if len(known) == len(remote) else "unknown"


def _prepared(store: Store, dataset: Dataset) -> str:
    return "prepared" if read_data_manifest(store, dataset.key) else "-"


def show_prepared(store: Store, manifest: DataManifest) -> None:
    """Print the arrays of a prepared data set, what was left out, and its URL."""
    rows = [
        (name, entry.dtype, " x ".join(map(str, entry.shape)), entry.sha256[:12])
        for name, entry in manifest.arrays.items()
    ]
    table(f"{manifest.name}/{manifest.variant}: {manifest.title}", ("array", "dtype", "shape", "sha256"), rows)
    for split in ("train", "val"):
        for reason, count in manifest.report.get(split, {}).get("left_out", {}).items():
            out.print(f"{split}: {count} left out, {reason}")
    out.print(f"prepared     {store.dataset(manifest.key)}")


def show_checks(store: str, checks: Sequence[Check]) -> bool:
    """Print what a store supports; False if it cannot be used."""
    rows = [(check.name, check.level, check.detail, check.advice) for check in checks]
    table(f"Store {store}", ("what", "verdict", "seen", "advice"), rows)
    return all(check.ok for check in checks)
