"""The `specdyn` command: each subcommand reads the store, or starts the flow that fills it."""

import importlib.metadata
import os
from typing import Annotated

import typer

from specdyn.flows.cli import care, start
from specdyn.flows.cli.command import command
from specdyn.flows.cli.data import data_app
from specdyn.flows.cli.json_form import with_json
from specdyn.flows.cli.options import Commands, StoreOption, StudyArgument, friendly, out, studies
from specdyn.flows.cli.service import schedule_app, serve
from specdyn.flows.cli.verdicts import commands
from specdyn.flows.parameters import AnalyseParameters, ConnectParameters, SweepParameters, TicketParameters

app = typer.Typer(
    name="specdyn",
    cls=Commands,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    rich_markup_mode="markdown",
    help="Train networks, keep every checkpoint, and analyse how the singular values of the weights change.\n\n"
    "Start with `specdyn run modular_addition --preset smoke` (seconds) or `--preset demo` (minutes).",
)
StoreArgument = Annotated[str, typer.Argument(help="Local folder or `s3://bucket/prefix`.")]
storage_app = typer.Typer(no_args_is_help=True, help="Check and clean a store.")
app.add_typer(storage_app, name="storage")
app.add_typer(data_app, name="data")
app.add_typer(schedule_app, name="schedule")
app.command()(command(SweepParameters, start.run))
app.command()(command(ConnectParameters, start.connect))
app.command()(command(TicketParameters, start.tickets))
app.command()(command(AnalyseParameters, start.analyse))
app.command("plan")(with_json(start.plan))
app.command()(serve)
app.command()(with_json(commands.claims))
app.command()(with_json(commands.replicate))
for look_after in (care.verify, care.repair, care.gc, care.thin, care.remove):
    app.command()(with_json(look_after))


def _show_version(asked: bool) -> None:
    if asked:
        out.print(f"specdyn {importlib.metadata.version('specdyn')}")
        raise typer.Exit


@app.callback()
@friendly
def specdyn(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
    plugins: Annotated[
        list[str] | None,
        typer.Option(
            "--plugins",
            metavar="PATH",
            help="A file, or a folder of files, that declares experiments, analyses, figures, data sets or families of "
            "your own; it is run. May be repeated; also by `SPECDYN_PLUGINS` and `[tool.specdyn]` in pyproject.toml.",
        ),
    ] = None,
) -> None:
    """Train networks, keep every checkpoint, and analyse how the singular values of the weights change."""
    from specdyn.models.plugins import places

    places.forget()
    places.give(plugins or [])


@app.command("list")
@with_json
@friendly
def list_(
    what: Annotated[
        str, typer.Argument(help="`experiments`, `presets`, `analyses`, `figures`, `families`, `studies`.")
    ] = "experiments",
    of: Annotated[str, typer.Argument(help="With `presets`: only those of this experiment.")] = "",
    store: StoreOption = "results",
) -> None:
    """List experiments, presets, analyses, figures or families of networks, or the studies in a store.

    Plug-ins are listed with their location.
    """
    from specdyn.flows.cli import listings
    from specdyn.models.spec.checks import require, require_known

    known = {
        "experiments": listings.list_experiments,
        "presets": lambda: listings.list_presets(of),
        "analyses": listings.list_analyses,
        "figures": listings.list_figures,
        "families": listings.list_families,
        "studies": lambda: listings.list_studies(store),
    }
    require_known("listing", what, known)
    require(not of or what == "presets", "of", of, "nothing, unless presets are listed")
    known[what]()


@app.command()
@with_json
@friendly
def settings(
    experiment: Annotated[str, typer.Argument(help="Name of an experiment (see `specdyn list`).")],
    preset: Annotated[str, typer.Option(help="Preset whose values are shown. Default: the usual one.")] = "",
) -> None:
    """Show every setting of an experiment: its value in a preset, its type and what it means."""
    from specdyn.flows.cli.settings import show_settings

    show_settings(experiment, preset)


@app.command()
@with_json
@friendly
def status(name: StudyArgument, store: StoreOption = "results") -> None:
    """Show the progress of every run, read from the store; also works while the runs train elsewhere."""
    from specdyn.flows.cli.status import show_status

    show_status(name, store)


@app.command()
@with_json
@friendly
def ledger(study: StudyArgument, store: StoreOption = "results") -> None:
    """Show how long the units of work of a study took, next to the plan's estimates."""
    from specdyn.flows.cli.status import show_ledger

    show_ledger(study, store)


@app.command()
@with_json
@friendly
def show(
    run_id: Annotated[str, typer.Argument(help="A run_id or its first characters (see `specdyn status`).")],
    store: StoreOption = "results",
) -> None:
    """Show the settings, the checkpoints and the result of one run."""
    from specdyn.flows.cli.listings import show_run

    show_run(run_id, store)


@app.command()
@friendly
def report(
    study: StudyArgument,
    store: StoreOption = "results",
    folder: Annotated[
        str | None,
        typer.Option("--out", help="Folder or `s3://` URL to write to. Default: reports/STUDY in the store."),
    ] = None,
    figures: Annotated[
        bool,
        typer.Option("--figures", help="Also draw the paper's figures, each as PNG and SVG at text width."),
    ] = False,
) -> None:
    """Write the HTML report of a study, finished or not, and print the summary table of its runs."""
    from specdyn.flows.cli.reported import report as write

    write(study, store, folder, figures)


@app.command()
@friendly
def compare(
    sweeps: Annotated[
        list[str],
        typer.Argument(
            help="Names of sweeps or of analysed checkpoints (see `specdyn list studies`).", autocompletion=studies
        ),
    ],
    store: StoreOption = "results",
    file: Annotated[
        str | None, typer.Option("--out", help="File to write. Default: reports/comparison.png in the store.")
    ] = None,
) -> None:
    """Plot the mean effective rank of several sweeps side by side, one line per combination of settings."""
    from specdyn.flows.cli.listings import require_cube
    from specdyn.models.spec.checks import require
    from specdyn.storage.access.objects import normalise, require_writable, write
    from specdyn.storage.query import open_measured, reading
    from specdyn.tasks.figures.overview import overview
    from specdyn.tasks.figures.style import to_png

    found = [require_cube(name, store) for name in sweeps]
    written = normalise(file) if file is not None else found[0].report("comparison") + ".png"
    require(written.endswith(".png") and not os.path.isdir(written), "out", file, "the name of a .png file")
    require_writable(written.rsplit("/", 1)[0])
    cubes = [url.cube(name) for name, url in zip(sweeps, found, strict=True)]
    with reading(", ".join(cubes)):
        figure = overview([open_measured(cube) for cube in cubes])
    write(written, to_png(figure))
    out.print(f"figure       {written}")


@app.command()
@friendly
def plot(
    study: StudyArgument,
    name: Annotated[
        str,
        typer.Argument(help="A stored variable, e.g. `stable_rank` (a typo lists them all), or one of `list figures`."),
    ],
    store: StoreOption = "results",
    by: Annotated[str, typer.Option(help="Setting that orders the colours. Default: weight decay.")] = "",
    along: Annotated[str, typer.Option(help="Dimension of the horizontal axis. Default: step, else rank.")] = "",
    at: Annotated[
        list[str] | None, typer.Option("--at", help="DIMENSION=LABEL, e.g. `rank=1`. May be repeated.")
    ] = None,
    layer: Annotated[str, typer.Option(help="Draw only this layer. Default: one panel per layer.")] = "",
    log: Annotated[str, typer.Option(help="Logarithmic axes: `x`, `y` or `xy`.")] = "",
    file: Annotated[
        str | None, typer.Option("--out", help="File to write, .png or .svg. Default: STUDY-NAME.png here.")
    ] = None,
) -> None:
    """Draw any stored variable of a study: means over seeds by configuration, one panel per layer or pair.

    Or draw a figure from `specdyn list figures`, including your own. `--along`, `--at`, `--layer` and `--log` are only
    for variables.

    Examples: `specdyn plot modular_addition-demo stable_rank --log y`,
    `specdyn plot modular_addition-demo singular_value --along rank --layer decoder.weight --at step=1000`
    """
    from specdyn.flows.cli.drawn import draw

    chosen = [*(at or []), *([f"layer={layer}"] if layer else [])]
    out.print(f"figure       {draw(study, name, store, by, along, chosen, log, file)}")


@app.command()
@friendly
def explore(
    study: StudyArgument,
    store: StoreOption = "results",
    port: Annotated[int, typer.Option(help="Port of the app (0 picks a free one).")] = 0,
    browser: Annotated[bool, typer.Option("--browser/--no-browser", help="Open the app in a browser.")] = True,
    notebook: Annotated[
        str | None,
        typer.Option("--notebook", help="Write the app to this .py file, to start from, instead of serving it."),
    ] = None,
) -> None:
    """Open an app on a study's results: choose runs, variable, layer and step; see heat maps, curves and a table.

    It listens on this machine only and reads only what it shows. Ctrl-C ends it. Needs `pip install
    'specdyn[explore]'`.

    Example: `specdyn explore modular_addition-demo`; `--notebook mine.py`, then `marimo edit mine.py`
    """
    from specdyn.flows.cli.explore import explore as start

    start(study, store, port, browser, notebook, out.print)


@app.command()
@friendly
def export(
    study: StudyArgument,
    store: StoreOption = "results",
    to: Annotated[str, typer.Option("--to", help="`csv`, `parquet` or `netcdf`.")] = "csv",
    folder: Annotated[
        str | None, typer.Option("--out", help="Folder or `s3://` URL to write to. Default: STUDY-FORMAT here.")
    ] = None,
    variables: Annotated[
        str | None, typer.Option("--variables", help="Names, separated by commas. Default: all.", show_default=False)
    ] = None,
) -> None:
    """Write results as tables in long format (CSV, Parquet) or as netCDF, for R, MATLAB, DuckDB and others.

    One table per group and set of dimensions, with the varied settings as columns; `columns.json` describes every
    column. Parquet and netCDF need `pip install 'specdyn[export]'`.

    Example: `specdyn export modular_addition-demo --to parquet --variables effective_rank,loss`
    """
    from specdyn.flows.cli.options import words
    from specdyn.models.wording import plural
    from specdyn.storage.probe import existing_store
    from specdyn.tasks.library.export import export as write

    url = existing_store(store)
    chosen = words(variables, "variables") if variables is not None else []
    place = folder if folder is not None else f"{study}-{to}"
    written = write(url.url, study, to, place, chosen)  # type: ignore[arg-type]
    out.print(f"{plural(len(written), 'file')} in {written[0].rsplit('/', 1)[0]}")


@storage_app.command("check")
@with_json
@friendly
def storage_check(store: StoreArgument = "results") -> None:
    """Check that a store supports what the pipeline needs: writes, reads, byte ranges, listing, conditional writes."""
    from specdyn.flows.cli.listings import show_checks
    from specdyn.storage.access.objects import normalise
    from specdyn.storage.probe import probe

    if not show_checks(normalise(store), probe(store)):
        raise typer.Exit(1)


@storage_app.command("clean")
@friendly
def storage_clean(store: StoreArgument = "results") -> None:
    """Remove files at least an hour old that interrupted writes and replaced cubes left behind; never touches results.

    A reader that opened a cube before it was rebuilt must open it again.
    """
    from specdyn.models.wording import plural
    from specdyn.storage.leftovers import remove_leftovers
    from specdyn.storage.probe import existing_store

    url = existing_store(store)
    count, size = remove_leftovers(url)
    files = plural(count, "temporary file")
    out.print(f"removed      {files}, {size / 1e6:.1f} MB, from {url}", markup=False)
