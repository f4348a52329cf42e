"""What the command prints of what there is: experiments, presets, analyses, data sets, sweeps and runs of a store."""

from collections.abc import Sequence

from specdyn.flows.cli.terminal import out, span_of, table
from specdyn.models.datasets.base import Dataset, RemoteFile, dataset_names, get_dataset, variants_of
from specdyn.models.experiments.base import experiment_names, get_experiment, read_spec
from specdyn.models.spec.run_spec import hyperparameters
from specdyn.models.wording import plural
from specdyn.storage.access import objects
from specdyn.storage.checkpoints import read_manifest
from specdyn.storage.datasets import DataManifest, read_data_manifest
from specdyn.storage.places import Store
from specdyn.storage.probe import Check, existing_store
from specdyn.storage.studies import read_study, study_names
from specdyn.tasks.identity import computed_on, results_id
from specdyn.tasks.plan.tables import duration, size
from specdyn.tasks.spectra.analysis import analysis_names, get_analysis


def list_experiments() -> None:
    """Print the experiments and how they differ from the paper."""
    found = [get_experiment(name) for name in experiment_names()]
    table("Experiments", ("name", "what it is", "presets"), [(e.name, e.title, ", ".join(e.presets)) for e in found])


def list_presets() -> None:
    """Print the presets of every experiment with their grids."""
    rows = [
        (name, key, preset.about, ", ".join(f"{w:g}" for w in preset.weight_decays), ", ".join(map(str, preset.seeds)))
        for name in experiment_names()
        for key, preset in get_experiment(name).presets.items()
    ]
    table("Presets", ("experiment", "preset", "what it is", "weight decays", "seeds"), rows)


def list_analyses() -> None:
    """Print the analyses with their variables."""
    rows = [
        (name, variable, ", ".join(declared.dims), declared.long_name.format(metric="metric"))
        for name in analysis_names()
        for variable, declared in get_analysis(name).variables.items()
    ]
    table("Analyses", ("analysis", "variable", "dimensions", "what it is"), rows)


def list_sweeps(store: str) -> None:
    """Print the sweeps and the graphs of a store, and the series of other programs' checkpoints that were analysed."""
    url = existing_store(store)
    cubes = {"sweep": url.cube, "connectivity": url.connectivity, "tickets": url.tickets, "series": url.cube}
    records = [record for name, kind in study_names(url) if (record := read_study(url, name, kind))]
    rows = [
        (
            r.name,
            r.kind,
            r.experiment if r.specs else "-",
            r.preset or "-",
            str(len(r.specs) or len(r.sources)),
            cubes[r.kind](r.name),
        )
        for r in records
    ]
    table(f"Sweeps in {url}", ("name", "kind", "experiment", "preset", "runs", "cube"), rows)


def require_cube(name: str, store: str) -> Store:
    """The store with the sweep, or the analysed checkpoints, of that name; ValueError lists the names that it has."""
    url = existing_store(store)
    names = study_names(url, ("sweep", "series"))
    records = [read_study(url, name, kind) for known, kind in names if known == name]
    if not any(records):
        known = list(dict.fromkeys(known for known, _ in names))
        raise ValueError(f"no sweep called {name!r} in {url}; it has: {', '.join(known) or 'none'}")
    return url


def show_run(prefix: str, store: str) -> None:
    """Print the spec, the checkpoints and the end of one run."""
    url = existing_store(store)
    experiment, run_id = _find_run(prefix, url)
    manifest = read_manifest(url.run(experiment, run_id))
    if manifest is None:
        raise ValueError(f"run {run_id} of {experiment} is still in training; `specdyn status` shows how far it is")
    spec = read_spec(manifest.spec, experiment)
    table(f"Run {run_id}", ("hyper-parameter", "value"), [(k, str(v)) for k, v in hyperparameters(spec).items()])
    entries = manifest.checkpoints
    total = sum(entry.bytes for entry in entries)
    steps = span_of([entry.step for entry in entries])
    out.print(f"{manifest.status}: {plural(len(entries), 'checkpoint')}, {size(total)}, {steps}")
    if manifest.reason:
        out.print(manifest.reason, soft_wrap=True, highlight=False)
    out.print(f"trained in {duration(manifest.seconds)} on {computed_on(manifest)}", highlight=False, soft_wrap=True)
    out.print(f"checkpoints  {url.run(experiment, run_id).folder}", highlight=False, soft_wrap=True)
    results = url.run_results(experiment, results_id(manifest))
    if objects.names(results):
        out.print(f"results      {results}", highlight=False, soft_wrap=True)


def _find_run(prefix: str, store: Store) -> tuple[str, str]:
    found = [
        (experiment, run_id)
        for experiment in objects.names(store.checkpoints())
        for run_id in objects.names(store.checkpoints(experiment))
        if run_id.startswith(prefix)
    ]
    if len(found) != 1:
        which = ", ".join(run_id for _, run_id in found)
        some = f"several runs in {store} start" if found else f"no run in {store} starts"
        raise ValueError(f"{some} with {prefix!r}{f': {which}' if found else ''}; `specdyn status` shows the run_ids")
    return found[0]


def show_datasets(store: Store) -> None:
    """Print every data set, and whether a store has it."""
    sets = [get_dataset(name, variant) for name in dataset_names() for variant in variants_of(name)]
    rows = [
        (found.name, found.variant, found.title, _fetched(found), found.licence, _prepared(store, found))
        for found in sets
    ]
    table(f"Data sets in {store}", ("name", "variant", "what it is", "download", "licence", "in the store"), rows)


def _fetched(dataset: Dataset) -> str:
    remote = [file for file in dataset.files if isinstance(file, RemoteFile)]
    if not remote:
        return "nothing"
    known = [file.bytes for file in remote if file.bytes is not None]
    return size(sum(known)) if len(known) == len(remote) else "unknown"


def _prepared(store: Store, dataset: Dataset) -> str:
    return "prepared" if read_data_manifest(store, dataset.key) else "-"


def show_prepared(store: Store, manifest: DataManifest) -> None:
    """Print the arrays of a prepared data set, what was left out of it and where it lies."""
    rows = [
        (name, entry.dtype, " x ".join(map(str, entry.shape)), entry.sha256[:12])
        for name, entry in manifest.arrays.items()
    ]
    table(f"{manifest.name}/{manifest.variant}: {manifest.title}", ("array", "dtype", "shape", "sha256"), rows)
    for split in ("train", "val"):
        for reason, count in manifest.report.get(split, {}).get("left_out", {}).items():
            out.print(f"{split}: {count} left out, {reason}", highlight=False, soft_wrap=True)
    out.print(f"prepared     {store.dataset(manifest.key)}", highlight=False, soft_wrap=True)


def show_checks(store: str, checks: Sequence[Check]) -> bool:
    """Print what a store can do; False where it cannot be used."""
    rows = [(check.name, check.level, check.detail, check.advice) for check in checks]
    table(f"Store {store}", ("what", "verdict", "seen", "advice"), rows)
    return all(check.ok for check in checks)
