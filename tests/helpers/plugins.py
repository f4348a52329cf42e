"""Plug-ins as users write them: small files, and packages with entry points."""

import textwrap
from pathlib import Path

ANALYSIS = '''
"""The largest entry of a layer."""
from specdyn.storage.schema import Variable
from specdyn.tasks.spectra.analysis import Analysis

def compute(view):
    return {{"{name}": {factor} * float(view.w_MN.abs().max())}}

ANALYSIS = Analysis(
    name="{name}",
    version=1,
    of="layer",
    needs_vectors=False,
    variables={{"{name}": Variable(dims=("layer", "step"), long_name="largest entry")}},
    compute=compute,
)
'''
EXPERIMENT = '''
"""Modular addition with another name and another loss."""
from dataclasses import replace
from specdyn.models.experiments.base import get_experiment
{imports}
PARENT = get_experiment("modular_addition")
SMOKE = replace(PARENT.preset("smoke").spec, experiment="{name}", steps=20)
EXPERIMENT = replace(
    PARENT,
    name="{name}",
    presets={{"smoke": replace(PARENT.preset("smoke"), spec=SMOKE, weight_decays=(0.0,), seeds=(0,), axes={{}})}},
    usual="smoke",
    loss=lambda spec, outputs, batch: {factor} * PARENT.loss(spec, outputs, batch),
)
'''
FIGURE = """
from matplotlib.figure import Figure
from specdyn.tasks.figures.offered.declared import ReportFigure

def draw(tree, by):
    {body}
    figure = Figure()
    axes = figure.subplots()
    axes.set_title(by)
    for run in tree["layers"]["{variable}"].transpose("run", "step", ...).values:
        axes.plot(run.reshape(len(run), -1))
    return figure

FIGURE = ReportFigure(name="{name}", title="lines", needs=("layers", "{variable}"), draw=draw)
"""


def analysis(folder: Path, name: str = "largest", factor: int = 1, file: str = "") -> Path:
    """A file that declares an analysis: the largest entry of a layer, times a factor."""
    return write(folder, file or name, ANALYSIS.format(name=name, factor=factor))


def experiment(folder: Path, name: str = "scaled", factor: int = 1, imports: str = "") -> Path:
    """A file that declares an experiment: modular addition with its loss times a factor."""
    return write(folder, name, EXPERIMENT.format(name=name, factor=factor, imports=imports))


def figure(folder: Path, name: str = "lines", variable: str = "effective_rank", body: str = "") -> Path:
    """A file that declares a figure: a line for each layer of each run."""
    return write(folder, name, FIGURE.format(name=name, variable=variable, body=body))


def write(folder: Path, name: str, text: str) -> Path:
    """A Python file."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"{name}.py"
    file.write_text(textwrap.dedent(text).lstrip())
    return file


def package(folder: Path, name: str, entries: dict[str, dict[str, str]]) -> Path:
    """The metadata of an installed package in a folder of `sys.path`, with entry points by their group."""
    metadata = folder / f"{name}-1.2.dist-info"
    metadata.mkdir(parents=True)
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.2\n")
    groups = [
        "\n".join([f"[{group}]", *(f"{n} = {value}" for n, value in of.items())]) for group, of in entries.items()
    ]
    (metadata / "entry_points.txt").write_text("\n".join(groups) + "\n")
    return metadata
