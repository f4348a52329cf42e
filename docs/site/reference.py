"""Generates the pages of the reference from the declarations in the code."""

import importlib
import inspect
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import typer

from docs.site import figures
from specdyn import OFFERED
from specdyn.flows.cli.app import app
from specdyn.flows.cli.settings import meanings
from specdyn.models.experiments.base import EXPERIMENTS, Experiment
from specdyn.models.plugins.kinds import inside
from specdyn.models.spec.run_spec import RunSpec, as_text
from specdyn.models.spec.settings import KINDS, settings_of
from specdyn.tasks.figures.metrics_table import row as variable_row
from specdyn.tasks.figures.offered.registry import figure_names, get_figure
from specdyn.tasks.spectra.analysis import ANALYSES, Analysis

MADE = "*This page is made from the declarations in the code each time the site is built.*"


def generated_pages() -> dict[Path, str]:
    """Place of each generated page in the site -> its Markdown."""
    return {
        Path("reference/experiments.md"): experiments_page(),
        Path("reference/settings.md"): settings_page(),
        Path("reference/analyses.md"): analyses_page(),
        Path("reference/figures.md"): figures_page(),
        Path("reference/options.md"): options_page(),
        Path("reference/pictures.md"): pictures_page(),
        Path("api.md"): api_page(),
    }


def table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table, with Markdown characters escaped."""
    lines = [headings, ["---"] * len(headings), *rows]
    return "\n".join("| " + " | ".join(_cell(cell) for cell in line) + " |" for line in lines)


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").split())


def page(title: str, about: str, *parts: str) -> str:
    """A page with its title, introduction and parts."""
    return "\n\n".join([f"# {title}", about, MADE, *parts]) + "\n"


def experiments_page() -> str:
    """Every experiment with its presets, their grids, and where they differ from the paper."""
    parts = []
    for experiment in inside(EXPERIMENTS).values():
        parts += [f"## {experiment.name}", f"{experiment.title}. The usual preset is `{experiment.usual}`."]
        rows = [
            (
                f"`{name}`",
                preset.about,
                f"{preset.spec.steps:,}",
                ", ".join(f"{value:g}" for value in preset.weight_decays),
                ", ".join(f"{axis}: {', '.join(map(as_text, values))}" for axis, values in preset.axes.items()),
                ", ".join(map(str, preset.seeds)),
                "/".join(experiment.dataset(preset.spec) or ("made by the run",)),
            )
            for name, preset in experiment.presets.items()
        ]
        headings = ("preset", "what it is", "steps", "weight decays", "other axes", "seeds", "data set")
        parts.append(table(headings, rows))
        if experiment.deviations:
            parts.append("Where presets differ from the paper:")
            parts.append("\n".join(f"* {sentence}" for sentence in experiment.deviations))
    about = "`specdyn run EXPERIMENT --preset PRESET` trains one of these; `specdyn list presets` prints the same."
    return page("Experiments and presets", about, *parts)


def settings_page() -> str:
    """Every setting with its type, default and meaning: those of all experiments first, then those of each."""
    experiments = inside(EXPERIMENTS)
    some = next(iter(experiments.values()))
    shared = [_setting(some, name) for name, place in settings_of(_usual(some)).items() if place.part not in PARTS]
    headings = ("setting", "of", "type", "meaning")
    parts = ["## Of every run", table(headings, shared)]
    for name, experiment in experiments.items():
        rows: dict[str, tuple[str, ...]] = {}
        for preset in experiment.presets.values():
            for key, place in settings_of(preset.spec).items():
                if place.part in PARTS:
                    owner = type(getattr(preset.spec, place.part))
                    rows.setdefault(f"{owner.__name__}.{key}", _setting(experiment, key, preset.spec))
        parts += [f"## Of {name}", table(headings, rows.values())]
    about = (
        "`--set NAME=VALUE` fixes a setting, `-a NAME=VALUE,VALUE` makes it an axis of the grid. "
        "`specdyn settings EXPERIMENT` also prints the values of a preset."
    )
    return page("Settings", about, *parts)


PARTS = ("net", "data")


def _usual(experiment: Experiment) -> RunSpec:
    return experiment.preset(experiment.usual).spec


def _setting(experiment: Experiment, name: str, spec: RunSpec | None = None) -> tuple[str, str, str, str]:
    spec = spec or _usual(experiment)
    place = settings_of(spec)[name]
    owner = type(getattr(spec, place.part)) if place.part else type(spec)
    kind = KINDS.get(place.field.type) or str(place.field.type).replace("None", "none").replace("|", "or")
    part = "run" if owner is RunSpec else owner.__name__
    return f"`{name}`", part, kind.removeprefix("a ").removeprefix("an "), meanings(owner).get(place.field.name, "")


VIEWS = {
    "layer": "each layer of each checkpoint",
    "pair": "each pair of layers of each checkpoint",
    "checkpoint": "each checkpoint",
    "run": "each run, once",
}
COMPARED = {
    "": "no other checkpoint",
    "initial": "the first checkpoint",
    "previous": "the previous checkpoint",
    "final": "the last checkpoint",
    "any": "several checkpoints",
}


def analyses_page() -> str:
    """Every analysis: its subject, the checkpoint with which it compares, its requirements, and its variables."""
    parts = []
    for analysis in inside(ANALYSES).values():
        parts += [f"## {analysis.name}", _about_analysis(analysis)]
        headings = ("variable", "meaning", "formula and source", "dimensions", "units")
        rows = [variable_row(name, variable) for name, variable in analysis.variables.items()]
        parts.append("\n".join([_line(headings), _line(["---"] * len(headings)), *rows]))
    about = (
        "`--analyses NAME,NAME` chooses some of these; without it, all that are marked *by default* run. "
        "[Metrics](../metrics.md) has the notation of the formulas."
    )
    return page("Analyses", about, *parts)


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _about_analysis(analysis: Analysis) -> str:
    module = importlib.import_module(f"specdyn.tasks.analyses.{analysis.name}")
    facts = [
        f"computed for {VIEWS[analysis.of]}",
        f"compares with {COMPARED[analysis.compares]}",
        "needs singular vectors" if analysis.needs_vectors else "needs only singular values",
        *(["evaluates the network on its data"] if analysis.needs_data else []),
        "by default" if analysis.default else "on request",
        f"version {analysis.version}",
    ]
    return f"{(module.__doc__ or '').strip()}\n\n*{'; '.join(facts)}.*"


def figures_page() -> str:
    """Every figure of a report with the variables that it needs."""
    rows = []
    for figure in map(get_figure, figure_names()):
        group, *variables = figure.needs
        needs = ", ".join(f"`{group}/{variable}`" for variable in variables)
        rows.append((f"`{figure.name}`", figure.title, _first_sentence(figure.draw), needs))
    about = (
        "`specdyn report STUDY` draws these, and so does `specdyn.figure(results, NAME, by=SETTING)`. "
        "A figure is left out if the results lack its variables. `specdyn plot STUDY VARIABLE` draws any variable."
    )
    return page("Figures", about, table(("figure", "what it shows", "how it is laid out", "needs"), rows))


def pictures_page() -> str:
    """Every picture of the documents with the command that makes it."""
    about = "Every picture of these pages, how it is made, and where it was last made."
    headings = ("pictures", "one command", "which runs", "made")
    return page("How the pictures were made", about, table(headings, figures.table()))


def _first_sentence(function: Any) -> str:
    return (inspect.getdoc(function) or "").split("\n\n")[0]


def options_page() -> str:
    """Every command with its arguments and options, as in its `--help`."""
    parts = [part for name, command in commands() for part in _options_of(name, command)]
    about = "What `specdyn COMMAND --help` prints. [Commands](../commands.md) shows what each is for."
    return page("Options of every command", about, *parts)


def commands() -> Iterator[tuple[str, Any]]:
    """Every command by its words: `run`, `storage check`."""

    def below(name: str, command: Any) -> Iterator[tuple[str, Any]]:
        if not hasattr(command, "commands"):
            yield name, command
            return
        for word, inner in command.commands.items():
            yield from below(f"{name} {word}".strip(), inner)

    yield from below("", typer.main.get_command(app))


def _options_of(name: str, command: Any) -> list[str]:
    rows = []
    for parameter in command.params:
        if parameter.name == "help" or getattr(parameter, "hidden", False):
            continue
        words = [*parameter.opts, *parameter.secondary_opts] if parameter.param_type_name == "option" else []
        shown = ", ".join(f"`{word}`" for word in words) or f"`{(parameter.name or '').upper()}`"
        default = "" if parameter.default is None or callable(parameter.default) else as_text(parameter.default)
        rows.append((shown, getattr(parameter, "help", None) or "", f"`{default}`" if default else ""))
    help_text = inspect.cleandoc(command.help or "").replace("\b", "")
    return [f"## specdyn {name}", help_text, *([table(("option", "meaning", "default"), rows)] if rows else [])]


def api_page() -> str:
    """What `import specdyn` offers, from its docstrings."""
    entries = [
        f"::: {place.replace(':', '.')}\n    options:\n      heading: {name}\n      toc_label: {name}"
        for name, place in OFFERED.items()
    ]
    about = (
        "`import specdyn as sd` offers these names; [Use it from Python](library.md) shows them at work. "
        "The same functions are methods of the attribute `specdyn` of results."
    )
    return page("API", about, *entries)
