"""The `specdyn` command: each verb reads the store, or starts the flow that fills it."""

import importlib.metadata
import os
from typing import Annotated

import typer

from specdyn.flows.cli.data import data_app
from specdyn.flows.cli.graphs import connect, tickets
from specdyn.flows.cli.options import (
    Analyses,
    Axes,
    Cpus,
    Decays,
    ExecutorKind,
    Experiment,
    Preset,
    RayAddress,
    Report,
    RetryFailed,
    Seeds,
    Settings,
    Store,
    SweepName,
    Verbose,
    friendly,
    grid_of,
    out,
    words,
)
from specdyn.flows.cli.service import schedule_app, serve

app = typer.Typer(
    name="specdyn",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    rich_markup_mode="markdown",
    help="Train networks, keep every checkpoint, and analyse how the singular values of the weights change.\n\n"
    "Start with `specdyn run modular_addition --preset smoke` (seconds) or `--preset demo` (minutes).",
)
storage_app = typer.Typer(no_args_is_help=True, help="Check and clean a store.")
app.add_typer(storage_app, name="storage")
app.add_typer(data_app, name="data")
app.add_typer(schedule_app, name="schedule")
app.command()(connect)
app.command()(tickets)
app.command()(serve)


def _show_version(asked: bool) -> None:
    if asked:
        out.print(f"specdyn {importlib.metadata.version('specdyn')}", highlight=False)
        raise typer.Exit


@app.callback()
def specdyn(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Train networks, keep every checkpoint, and analyse how the singular values of the weights change."""


@app.command()
@friendly
def run(
    experiment: Experiment,
    preset: Preset = None,
    weight_decays: Decays = None,
    seeds: Seeds = None,
    axis: Axes = None,
    setting: Settings = None,
    store: Store = "results",
    sweep: SweepName = None,
    analyses: Analyses = None,
    executor: ExecutorKind = "ray",
    ray_address: RayAddress = None,
    cpus: Cpus = 1,
    gpus: Annotated[
        float | None,
        typer.Option(
            help="GPUs for each task; a fraction shares one. Default: 1 if there are any.", show_default=False
        ),
    ] = None,
    cpu_if_no_gpu: Annotated[bool, typer.Option(help="Use the CPU if the requested GPUs are not available.")] = False,
    report: Report = True,
    retry_failed: RetryFailed = False,
    verbose: Verbose = False,
) -> None:
    """Train a grid of weight decays and seeds, analyse every checkpoint and collect the results for xarray.

    Nothing in the store is computed twice: a second call does nothing, another weight decay adds only its own runs, and
    an interrupted command continues where it stopped. Any setting can be an axis of the grid.

    Examples: `specdyn run modular_addition -w 0,0.3,1 -s 0,1`, `specdyn run image_classification -a optimizer=sgd,sam`
    """
    from specdyn.flows.cli.terminal import run_sweep
    from specdyn.flows.engine.resources import Resources

    parameters = {
        **grid_of(experiment, preset, weight_decays, seeds, sweep, analyses, axis, setting),
        "store": store,
        "executor": executor,
        "ray_address": ray_address or "",
        "resources": Resources(cpus=cpus, gpus=gpus, cpu_if_no_gpu=cpu_if_no_gpu),
        "report": report,
        "retry_failed": retry_failed,
    }
    if not run_sweep(parameters, verbose):
        raise typer.Exit(1)


@app.command()
@friendly
def plan(
    experiment: Experiment,
    preset: Preset = None,
    weight_decays: Decays = None,
    seeds: Seeds = None,
    axis: Axes = None,
    setting: Settings = None,
    store: Store = "results",
    sweep: SweepName = None,
    analyses: Analyses = None,
) -> None:
    """Show the runs of a grid: which are done, which would run, how many bytes they write and about how long they take.

    Nothing is trained and nothing written; a few steps are timed on this machine for the estimate.
    """
    from specdyn.flows.cli.terminal import show_plan
    from specdyn.storage.probe import planned_store
    from specdyn.tasks.plan.planning import make_plan, require_inputs
    from specdyn.tasks.plan.sweeps import sweep_from

    chosen = sweep_from(grid_of(experiment, preset, weight_decays, seeds, sweep, analyses, axis, setting))
    url = planned_store(store)
    require_inputs(chosen.specs, url, asks=True)
    show_plan(make_plan(chosen, url))


@app.command()
@friendly
def analyse(
    sources: Annotated[
        list[str], typer.Argument(help="Folders or `s3://` URLs, each with the checkpoints of one training run.")
    ],
    name: Annotated[
        str | None,
        typer.Option(
            "--name",
            "-n",
            help="Name of the results. Default: the last part of the first source, options, a hash of the sources.",
        ),
    ] = None,
    store: Store = "results",
    pattern: Annotated[
        str | None,
        typer.Option(help="Regular expression whose group is the step in a file name, e.g. `run-(\\d+)`."),
    ] = None,
    heads: Annotated[
        int,
        typer.Option(
            help="Number of attention heads, to compare queries and keys of each head. Default: whole matrices."
        ),
    ] = 0,
    transposed: Annotated[
        str | None, typer.Option(help="Regular expression for the names of transposed convolutions.")
    ] = None,
    analyses: Analyses = None,
    executor: ExecutorKind = "ray",
    ray_address: RayAddress = None,
    cpus: Cpus = 1,
    report: Report = True,
    audit: Annotated[bool, typer.Option(help="Check for damaged, missing and duplicate checkpoints first.")] = True,
    verbose: Verbose = False,
) -> None:
    """Analyse checkpoints from any program: safetensors, `torch.save` files, Hugging Face shards.

    The step is read from the name (`step=1000`, `checkpoint-1000`, `1000.pt`, ...). Layers are read one at a time, so a
    checkpoint may be larger than memory. The checkpoints are audited first; results look like those of trained runs.

    Example: `specdyn analyse ~/runs/gpt-small --heads 12`
    """
    from specdyn.flows.cli.terminal import run_analysis
    from specdyn.flows.engine.resources import Resources
    from specdyn.tasks.foreign.series import TRANSPOSED

    parameters = {
        "sources": sources,
        "name": name or "",
        "store": store,
        "pattern": pattern or "",
        "heads": heads,
        "transposed": transposed or TRANSPOSED,
        "analyses": words(analyses, "analyses") or [],
        "executor": executor,
        "ray_address": ray_address or "",
        "resources": Resources(cpus=cpus),
        "report": report,
        "audited": audit,
    }
    run_analysis(parameters, verbose)


@app.command("list")
@friendly
def list_(
    what: Annotated[str, typer.Argument(help="`experiments`, `presets`, `analyses` or `sweeps`.")] = "experiments",
    store: Store = "results",
) -> None:
    """List experiments, presets or analyses, or the results in a store.

    `sweeps` also lists the results of `connect` and `tickets`.
    """
    from specdyn.flows.cli import terminal
    from specdyn.models.spec.checks import require_known

    listings = {
        "experiments": terminal.list_experiments,
        "presets": terminal.list_presets,
        "analyses": terminal.list_analyses,
        "sweeps": lambda: terminal.list_sweeps(store),
    }
    require_known("listing", what, listings)
    listings[what]()


@app.command()
@friendly
def status(
    name: Annotated[str, typer.Argument(help="Name of the results (see `specdyn list sweeps`).")],
    store: Store = "results",
) -> None:
    """Show the progress of every run, read from the store; also works while the runs train elsewhere."""
    from specdyn.flows.cli.status import show_status

    show_status(name, store)


@app.command()
@friendly
def show(
    run_id: Annotated[str, typer.Argument(help="A run_id or its first characters (see `specdyn status`).")],
    store: Store = "results",
) -> None:
    """Show the settings, the checkpoints and the result of one run."""
    from specdyn.flows.cli.terminal import show_run

    show_run(run_id, store)


@app.command()
@friendly
def report(
    sweep: Annotated[str, typer.Argument(help="Name of a sweep (see `specdyn list sweeps`).")],
    store: Store = "results",
    folder: Annotated[
        str | None,
        typer.Option("--out", help="Folder or `s3://` URL to write to. Default: reports/SWEEP in the store."),
    ] = None,
) -> None:
    """Write a sweep's figures and an HTML report, and print its summary table."""
    from specdyn.flows.cli.terminal import require_sweep, show_summary
    from specdyn.storage.access.objects import normalise, require_writable
    from specdyn.storage.places import Layout
    from specdyn.storage.query import reading
    from specdyn.tasks.figures import write_report

    url, found = require_sweep(sweep, store)
    cube = Layout(url).cube(found.name)
    place = Layout(url).report(found.name) if folder is None else normalise(folder)
    require_writable(place)
    with reading(cube):
        written = write_report(cube, place)
        show_summary(cube)
    out.print(f"{len(written) - 1} figures and a page: {written[0]}", soft_wrap=True)


@app.command()
@friendly
def compare(
    sweeps: Annotated[list[str], typer.Argument(help="Names of sweeps (see `specdyn list sweeps`).")],
    store: Store = "results",
    file: Annotated[
        str | None, typer.Option("--out", help="File to write. Default: reports/comparison.png in the store.")
    ] = None,
) -> None:
    """Plot the mean effective rank of several sweeps side by side, a line for each combination of settings."""
    from specdyn.flows.cli.terminal import require_sweep
    from specdyn.models.spec.checks import require
    from specdyn.storage.access.objects import normalise, require_writable, write
    from specdyn.storage.places import Layout
    from specdyn.storage.query import open_results, reading
    from specdyn.tasks.figures.overview import overview
    from specdyn.tasks.figures.style import to_png

    found = [require_sweep(name, store) for name in sweeps]
    written = normalise(file) if file is not None else Layout(found[0][0]).report("comparison") + ".png"
    require(written.endswith(".png") and not os.path.isdir(written), "out", file, "the name of a .png file")
    require_writable(written.rsplit("/", 1)[0])
    cubes = [Layout(url).cube(sweep.name) for url, sweep in found]
    with reading(", ".join(cubes)):
        figure = overview([open_results(cube) for cube in cubes])
    write(written, to_png(figure))
    out.print(f"figure       {written}", highlight=False, soft_wrap=True)


@storage_app.command("check")
@friendly
def storage_check(
    store: Annotated[str, typer.Argument(help="Local folder or `s3://bucket/prefix`.")] = "results",
) -> None:
    """Check that a store supports all the pipeline needs: writes, reads, byte ranges, listing, conditional writes."""
    from specdyn.flows.cli.terminal import show_checks
    from specdyn.storage.access.objects import normalise
    from specdyn.storage.probe import probe

    if not show_checks(normalise(store), probe(store)):
        raise typer.Exit(1)


@storage_app.command("clean")
@friendly
def storage_clean(
    store: Annotated[str, typer.Argument(help="Local folder or `s3://bucket/prefix`.")] = "results",
) -> None:
    """Remove what interrupted writes and replaced cubes left an hour or more ago; results are never touched.

    A reader that has had a cube open since before it was rebuilt must open it again.
    """
    from specdyn.models.wording import plural
    from specdyn.storage.leftovers import remove_leftovers
    from specdyn.storage.probe import existing_store

    url = existing_store(store)
    count, size = remove_leftovers(url)
    files = plural(count, "temporary file")
    out.print(f"removed      {files}, {size / 1e6:.1f} MB, from {url}", highlight=False, markup=False, soft_wrap=True)
