"""What the command prints: tables of plans, runs and results."""

import os
import time
import warnings
from collections.abc import Callable, Sequence
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from specdyn.flows.engine.choices import connectivity_from, tickets_from
from specdyn.flows.engine.engines import at_work, require_engines
from specdyn.flows.engine.executor import EXECUTORS
from specdyn.models.datasets.base import Dataset, RemoteFile, dataset_names, get_dataset, variants_of
from specdyn.models.experiments.base import experiment_names, get_experiment, read_spec
from specdyn.models.spec.checks import require_known
from specdyn.models.spec.run_spec import hyperparameters
from specdyn.models.wording import plural
from specdyn.storage.access import objects
from specdyn.storage.checkpoints import read_manifest
from specdyn.storage.datasets import DataManifest, read_data_manifest
from specdyn.storage.foreign.find import find_checkpoints
from specdyn.storage.graphs import graph_names, read_graph
from specdyn.storage.places import Layout
from specdyn.storage.probe import Check, existing_store, require_store
from specdyn.storage.query import open_results, sweep_names
from specdyn.storage.sweeps import read_sweep
from specdyn.tasks.evaluation.environment import computed_on as trained_on
from specdyn.tasks.figures.summary import computed_on, headings, sweep_table
from specdyn.tasks.foreign.audit import HEADINGS as AUDIT_HEADINGS
from specdyn.tasks.foreign.series import ForeignSeries, read_anatomy
from specdyn.tasks.identity import results_id
from specdyn.tasks.plan.gathering import nothing_to_do
from specdyn.tasks.plan.planning import Plan, require_inputs
from specdyn.tasks.plan.series import choose, cube_name
from specdyn.tasks.plan.sweeps import Sweep, sweep_from, sweep_of
from specdyn.tasks.plan.tables import HEADINGS, duration, plan_summary, row, size
from specdyn.tasks.spectra.analysis import analysis_names, get_analysis

UNBROKEN = 14
"""Cells up to this length, such as a run_id, stay on one line in a narrow terminal."""

out, err = Console(), Console(stderr=True)


def table(title: str, headings: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print rows under headings."""
    out.print(f"[bold]{escape(title)}[/]", highlight=False, soft_wrap=True)
    shown = Table(box=SIMPLE_HEAD, pad_edge=False)
    for column, heading in enumerate(headings):
        widest = max((len(cells[column]) for cells in rows), default=0)
        shown.add_column(heading, overflow="fold", no_wrap=len(heading) <= widest <= UNBROKEN)
    for cells in rows:
        shown.add_row(*map(escape, cells))
    out.print(shown)


def show_plan(plan: Plan) -> None:
    """Print a plan, or with nothing estimated a status."""
    table(f"{plan.sweep.name} in {plan.store}", HEADINGS, [row(cell) for cell in plan.cells])
    out.print(plan_summary(plan), highlight=False, soft_wrap=True)


def run_sweep(parameters: dict[str, Any], verbose: bool) -> bool:
    """Run the flow, then print its summary and where everything lies; False where cells failed."""
    sweep = sweep_from(parameters)
    require_known("executor", parameters["executor"], EXECUTORS)
    since, failure = time.monotonic(), None
    store = objects.normalise(parameters["store"])
    if nothing_to_do(sweep, store, parameters["report"]):
        err.print(_what_ran(0, len(sweep.specs)), highlight=False)
        _show_results(store, sweep.name, since)
        return True
    require_engines(parameters)
    require_store(store)
    require_inputs(sweep.specs, store)
    if not verbose:
        _quieten()
    err.print(f"{sweep.name}: starting Prefect and the {parameters['executor']} executor", highlight=False)
    with at_work(sweep.name, verbose) as begin:
        # Prefect takes seconds to import and reads its settings then: only once the input is known to be good.
        from specdyn.flows.sweep import SweepFailed, weight_decay_sweep

        try:
            ran = begin(weight_decay_sweep)(**parameters)["ran"]
            err.print(_what_ran(len(ran), len(sweep.specs)), highlight=False)
        except SweepFailed as error:
            failure = error
    _show_results(store, sweep.name, since)
    if failure:
        err.print(f"[bold red]failed:[/] {escape(str(failure))}", highlight=False, soft_wrap=True)
    return failure is None


def _show_results(store: str, name: str, since: float) -> None:
    """Print the summary of a sweep, where its results lie, and how long the call took."""
    cube = Layout(store).cube(name)
    if objects.exists(cube):
        show_summary(cube)
        _show_places(store, name, cube)
    out.print(f"ended after {duration(time.monotonic() - since)}")


def run_analysis(parameters: dict[str, Any], verbose: bool) -> None:
    """Audit and analyse series of checkpoints, then say where everything lies."""
    choose(parameters["analyses"] or None)
    cube_name(parameters["name"] or None, parameters["sources"])
    require_store(parameters["store"])
    for source in parameters["sources"]:
        found = find_checkpoints(source, parameters["pattern"] or None)
        read_anatomy(ForeignSeries(found), parameters["heads"], parameters["transposed"])
        steps = [checkpoint.step for checkpoint in found.checkpoints]
        span = f"{plural(len(steps), 'checkpoint')}, {_span(steps)}"
        err.print(f"{found.url}: {span}", highlight=False, soft_wrap=True)
        if found.skipped:
            names = ", ".join(f"{name} ({why})" for name, why in found.skipped[:5])
            err.print(f"skipped {len(found.skipped)}: {names}", highlight=False, soft_wrap=True)
    require_known("executor", parameters["executor"], EXECUTORS)
    require_engines(parameters)
    if not verbose:
        _quieten()
    since = time.monotonic()
    with at_work(f"The analysis of {parameters['sources'][0]}", verbose) as begin:
        from specdyn.flows.analyse import analyse_checkpoints

        outcome = begin(analyse_checkpoints)(**parameters)
    show_audit(outcome)
    _show_places(outcome["store"], outcome["name"], outcome["cube"])
    out.print(f"ended after {duration(time.monotonic() - since)}")


def run_graph_flow(which: str, parameters: dict[str, Any], verbose: bool) -> bool:
    """Run the flow `connect` or `tickets`, then print what is there and where; False where something failed."""
    require_known("executor", parameters["executor"], EXECUTORS)
    objects.normalise(parameters["store"])  # empty is the service's store in a form, and a slip in a command
    require_engines(parameters)
    _, store = {"connect": connectivity_from, "tickets": tickets_from}[which](parameters)
    if not verbose:
        _quieten()
    since, failure, outcome = time.monotonic(), None, {}
    err.print(
        f"{parameters['experiment']}: starting Prefect and the {parameters['executor']} executor", highlight=False
    )
    with at_work(f"{which} {parameters['name'] or parameters['experiment']}", verbose) as begin:
        from specdyn.flows.connect import mode_connectivity
        from specdyn.flows.engine.run_graph import GraphFailed
        from specdyn.flows.tickets import lottery_tickets
        from specdyn.tasks.plan.branching_tables import PLAN_HEADINGS

        flows: dict[str, Callable[..., dict[str, Any]]] = {"connect": mode_connectivity, "tickets": lottery_tickets}
        try:
            outcome = begin(flows[which])(**parameters)
        except GraphFailed as error:
            failure = error
    if parameters["dry_run"] and outcome:
        table(f"{outcome['name']} in {store}", PLAN_HEADINGS, outcome["stages"])
    if outcome:
        out.print(outcome["summary"], highlight=False, soft_wrap=True)
    if "trainings" in outcome:
        counts = f"{outcome['trainings']} trainings, {outcome['evaluations']} evaluations of a split"
        out.print(f"made         {counts}, {outcome['decompositions']} decompositions", highlight=False)
    if "cube" in outcome:
        out.print(f"results      {outcome['cube']}", highlight=False, soft_wrap=True)
    for figure in outcome.get("figures", ()):
        out.print(f"figure       {figure}", highlight=False, soft_wrap=True)
    out.print(f"checkpoints  {store}/checkpoints", highlight=False, soft_wrap=True)
    if "cube" in outcome:
        out.print(f'open it      xarray.open_zarr("{outcome["cube"]}")', highlight=False, soft_wrap=True)
    out.print(f"ended after {duration(time.monotonic() - since)}")
    if failure:
        err.print(f"[bold red]failed:[/] {escape(str(failure))}", highlight=False, soft_wrap=True)
    return failure is None


def show_audit(outcome: dict[str, Any]) -> None:
    """Print what was found about the checkpoints, and what of them was not analysed."""
    for source, findings in outcome["audit"].items():
        if findings:
            table(f"Audit of {source}", AUDIT_HEADINGS, findings)
        else:
            out.print(f"Audit of {source}: nothing unusual", highlight=False, soft_wrap=True)
    for source, left_out in outcome["left_out"].items():
        if left_out:
            table(f"Not analysed in {source}", ("tensor", "shape", "why"), left_out)


def _span(steps: Sequence[int]) -> str:
    return f"step {steps[0]}" if len(steps) == 1 else f"steps {steps[0]} to {steps[-1]}"


def _what_ran(ran: int, asked: int) -> str:
    if not ran:
        return f"{plural(asked, 'run')} already done: nothing to do"
    return f"{plural(ran, 'run')} finished" + (f", {asked - ran} already done" if ran < asked else "")


def _quieten() -> None:
    """Leave the terminal to the progress bars; Prefect's server keeps its log all the same."""
    os.environ.setdefault("PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL", "CRITICAL")
    warnings.filterwarnings("ignore", module="prefect")


def _show_places(store: str, sweep: str, cube: str) -> None:
    out.print(f"results      {cube}", highlight=False, soft_wrap=True)
    page = f"{Layout(store).report(sweep)}/index.html"
    if objects.exists(page):
        out.print(f"figures      {page}", highlight=False, soft_wrap=True)
    out.print(f"checkpoints  {store}/checkpoints", highlight=False, soft_wrap=True)
    out.print("open them    import specdyn", highlight=False)
    out.print(f'             results = specdyn.open("{cube}")', highlight=False, soft_wrap=True)


def show_summary(cube: str) -> None:
    """Print the summary table of a cube."""
    results = open_results(cube)
    rows = sweep_table(results)
    table("Results", headings(rows), [row.cells for row in rows])
    if machines := computed_on(results):
        out.print(f"computed on  {machines}", highlight=False, soft_wrap=True)


def show_datasets(store: str) -> None:
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


def _prepared(store: str, dataset: Dataset) -> str:
    return "prepared" if read_data_manifest(store, dataset.key) else "-"


def show_prepared(store: str, manifest: DataManifest) -> None:
    """Print the arrays of a prepared data set, what was left out of it and where it lies."""
    rows = [
        (name, entry.dtype, " x ".join(map(str, entry.shape)), entry.sha256[:12])
        for name, entry in manifest.arrays.items()
    ]
    table(f"{manifest.name}/{manifest.variant}: {manifest.title}", ("array", "dtype", "shape", "sha256"), rows)
    for split in ("train", "val"):
        for reason, count in manifest.report.get(split, {}).get("left_out", {}).items():
            out.print(f"{split}: {count} left out, {reason}", highlight=False, soft_wrap=True)
    out.print(f"prepared     {Layout(store).dataset(manifest.key)}", highlight=False, soft_wrap=True)


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
    """Print the sweeps and the graphs of a store."""
    url = existing_store(store)
    records = [record for name in sweep_names(url) if (record := read_sweep(url, name))]
    rows = [(r.name, "sweep", r.experiment, r.preset, str(len(r.specs)), Layout(url).cube(r.name)) for r in records]
    cubes = {"connectivity": Layout(url).connectivity, "tickets": Layout(url).tickets}
    graphs = [graph for name, kind in graph_names(url) if (graph := read_graph(url, name, kind))]
    rows += [(g.name, g.kind, g.experiment, "-", str(len(g.runs)), cubes[g.kind](g.name)) for g in graphs]
    table(f"Sweeps in {url}", ("name", "kind", "experiment", "preset", "runs", "cube"), rows)


def require_sweep(name: str, store: str) -> tuple[str, Sweep]:
    """The store's URL and its sweep of that name; ValueError lists those it has."""
    url = existing_store(store)
    record = read_sweep(url, name)
    if record is None:
        raise ValueError(f"no sweep called {name!r} in {url}; it has: {', '.join(sweep_names(url)) or 'none'}")
    return url, sweep_of(record)


def show_run(prefix: str, store: str) -> None:
    """Print the spec, the checkpoints and the end of one run."""
    url = existing_store(store)
    experiment, run_id = _find_run(prefix, url)
    manifest = read_manifest(url, experiment, run_id)
    if manifest is None:
        raise ValueError(f"run {run_id} of {experiment} is still in training; `specdyn status` shows how far it is")
    spec = read_spec(manifest.spec, experiment)
    table(f"Run {run_id}", ("hyper-parameter", "value"), [(k, str(v)) for k, v in hyperparameters(spec).items()])
    entries = manifest.checkpoints
    total = sum(entry.bytes for entry in entries)
    steps = _span([entry.step for entry in entries])
    out.print(f"{manifest.status}: {plural(len(entries), 'checkpoint')}, {size(total)}, {steps}")
    if manifest.reason:
        out.print(manifest.reason, soft_wrap=True, highlight=False)
    out.print(f"trained in {duration(manifest.seconds)} on {trained_on(manifest)}", highlight=False, soft_wrap=True)
    out.print(f"checkpoints  {Layout(url).run_folder(experiment, run_id)}", highlight=False, soft_wrap=True)
    results = Layout(url).run_store(experiment, results_id(manifest))
    if objects.exists(results):
        out.print(f"results      {results}", highlight=False, soft_wrap=True)


def _find_run(prefix: str, store: str) -> tuple[str, str]:
    found = [
        (experiment, run_id)
        for experiment in objects.names(f"{store}/checkpoints")
        for run_id in objects.names(f"{store}/checkpoints/{experiment}")
        if run_id.startswith(prefix)
    ]
    if len(found) != 1:
        which = ", ".join(run_id for _, run_id in found)
        some = f"several runs in {store} start" if found else f"no run in {store} starts"
        raise ValueError(f"{some} with {prefix!r}{f': {which}' if found else ''}; `specdyn status` shows the run_ids")
    return found[0]


def show_checks(store: str, checks: Sequence[Check]) -> bool:
    """Print what a store can do; False where it cannot be used."""
    rows = [(check.name, check.level, check.detail, check.advice) for check in checks]
    table(f"Store {store}", ("what", "verdict", "seen", "advice"), rows)
    return all(check.ok for check in checks)
