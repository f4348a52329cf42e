"""Fields of the forms that start flows: title, description, choices, bounds and examples, each said once."""

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from annotated_types import Ge, Gt, Le
from pydantic import Field

from specdyn.flows.shown import shown
from specdyn.models.experiments.base import experiment_names, get_experiment
from specdyn.models.spec.run_spec import OPTIMIZERS
from specdyn.models.spec.start import MASKS
from specdyn.tasks.spectra.analysis import analysis_names

USUAL = "usual"
"""The preset that an experiment begins with."""


def _one_of(title: str, choices: Sequence[str]) -> Any:
    """An item of a list that is one of a few names."""
    return Field(json_schema_extra={"title": title, "enum": list(choices)})


def preset_names() -> list[str]:
    """Names of the presets of all experiments, the usual one first."""
    return [USUAL, *sorted({name for found in experiment_names() for name in get_experiment(found).presets})]


def named_preset(experiment: str, preset: str) -> str:
    """The preset that a form means."""
    return get_experiment(experiment).usual if preset == USUAL else preset


Experiment = Annotated[str, shown("Experiment", "The network and the data to train on.", choices=experiment_names())]
Preset = Annotated[
    str,
    shown(
        "Preset",
        "Network, data, optimizer and schedule. `usual` trains in minutes; one that the experiment does not have is "
        "refused, with a list of those it has.",
        choices=preset_names(),
    ),
]
Decays = Annotated[
    list[Annotated[float, Ge(0)]],
    shown("Weight decays", "Values to train with; empty for the preset's.", [[0.0, 0.3, 1.0]]),
]
Seeds = Annotated[
    list[Annotated[int, Ge(0)]], shown("Seeds", "Values to train with; empty for the preset's.", [[0, 1, 2]])
]
MoreSeeds = Annotated[
    int,
    Ge(0),
    shown(
        "New seeds at each call",
        "How many seeds a further call adds once all runs of the sweep are done. For schedules; 0 adds none.",
        [1],
    ),
]
Optimizers = Annotated[
    list[Annotated[str, _one_of("Optimizer", OPTIMIZERS)]],
    shown("Optimizers", "Values to train with; empty for the preset's.", [["adamw", "muon"]]),
]
Analyses = Annotated[
    list[Annotated[str, _one_of("Analysis", analysis_names())]],
    shown("Analyses", "What to compute for every checkpoint; empty for the usual ones.", [["spectrum", "agreement"]]),
]
Axes = Annotated[
    dict[str, list[Any]],
    shown(
        "Further axes", "Any other settings with the values to train with, as JSON.", [{"learning_rate": [0.001, 0.01]}]
    ),
]
Settings = Annotated[
    dict[str, Any],
    shown("Settings", "Settings of every run that replace the preset's, as JSON.", [{"steps": 1000}]),
]
SweepName = Annotated[
    str,
    shown(
        "Name of the sweep",
        "Calls with one name extend the same results; empty for experiment-preset, with the axes and the settings "
        "changed. Letters, digits, '.', '_', '=' and '-'.",
        ["modular_addition-demo"],
    ),
]
GraphName = Annotated[
    str,
    shown(
        "Name of the results",
        "Empty for one that says what they are of and which settings were changed. Letters, digits, '.', '_', '=' "
        "and '-'.",
        ["rewinding"],
    ),
]
Store = Annotated[
    str,
    shown(
        "Store",
        "Folder or s3://bucket/prefix; empty for the service's. Credentials come from the environment, not from here.",
        ["results", "s3://lab/specdyn"],
    ),
]
ExecutorKind = Annotated[
    Literal["ray", "inline"],
    shown("Executor", "Where tasks run: on Ray, or in the flow's own process, one at a time."),
]
RayAddress = Annotated[
    str,
    shown(
        "Ray cluster",
        "Address of a running cluster; empty for the service's cluster, or a new one on this machine.",
        ["auto"],
    ),
]
UnitResources = shown("Resources of a task", "A task is one training, one block of checkpoints or one pair.")
Report = Annotated[bool, shown("Draw figures", "Write figures at the end and show them here.")]
RetryFailed = Annotated[
    bool,
    shown("Retry failed runs", "Retrain runs that diverged in an earlier call; otherwise they stay failed."),
]
DryRun = Annotated[
    bool, shown("Only plan", "Show what is done, what would run and what it would cost, and run nothing.")
]
Sources = Annotated[
    list[str],
    shown(
        "Series of checkpoints",
        "Folders or s3:// URLs, each with the checkpoints of one training run: .safetensors, .pt, .pth, .ckpt.",
        [["s3://lab/runs/gpt-small"]],
    ),
]
Pattern = Annotated[
    str,
    shown(
        "Pattern of steps",
        "Regular expression whose group is the step in a file name; empty for the usual patterns.",
        [r"run-(\d+)"],
    ),
]
Heads = Annotated[
    int,
    Ge(0),
    shown(
        "Attention heads",
        "Number of heads, to compare queries and keys of each head in fused projections; 0 compares none.",
    ),
]
Transposed = Annotated[
    str, shown("Transposed convolutions", "Regular expression for the names of transposed convolutions.")
]
Audited = Annotated[
    bool, shown("Audit first", "Check for damaged, missing and duplicate checkpoints; reads every tensor once.")
]

TrunkSeeds = Annotated[
    list[Annotated[int, Ge(0)]], shown("Seeds of the trunks", "One trunk (base run) for each.", [[0, 1, 2]])
]
Splits = Annotated[
    list[Annotated[int, Ge(0)]],
    shown(
        "Split points",
        "Steps to fork the trunks at, which must have a checkpoint; empty to choose a number of them.",
        [[0, 50, 500]],
    ),
]
SplitEpochs = Annotated[
    list[Annotated[float, Ge(0)]], shown("Split points in epochs", "Instead of steps.", [[0, 0.2, 1, 4]])
]
SplitCount = Annotated[
    int,
    Ge(1),
    shown(
        "Number of split points", "Used if no split points are given; half are in the first epoch. The paper uses 10."
    ),
]
Orders = Annotated[
    list[Annotated[int, Ge(0)]],
    shown(
        "Seeds of the data orders",
        "One branch (fork) for each; they also seed the masks. Empty for new ones.",
        [[3, 4, 5]],
    ),
]
Sizes = Annotated[
    list[Annotated[float, Ge(0)]],
    shown(
        "Sizes of a perturbation",
        "Relative to the weights, added at the last split point; empty for none.",
        [[0, 0.1, 0.25, 1]],
    ),
]
Directions = Annotated[
    list[Annotated[str, _one_of("Direction", ("random", "top", "bottom"))]],
    shown("Directions of a perturbation", "Random, or along the top or bottom singular vectors; empty for random."),
]
Across = Annotated[
    bool, shown("Connect across trunks", "Also interpolate between branches of different trunks, as a control.")
]
Layerwise = Annotated[
    bool, shown("Layer by layer", "Also interpolate one layer at a time; costs ten evaluations per layer and pair.")
]
CurveSteps = Annotated[
    int, Ge(0), shown("Steps of a curve", "Updates to train a curve between two final weights with; 0 trains none.")
]
Points = Annotated[int, Ge(3), shown("Points of a line", "Points on each line, evenly spaced, including both ends.")]
Retrain = Annotated[
    bool, shown("Retrain trunks", "Retrain a finished trunk up to a step whose training state was not kept.")
]
Rewind = Annotated[
    Annotated[int, Ge(0)] | None,
    shown("Rewind step", "Checkpoint to rewind to; empty for the first one after an epoch."),
]
RewindEpoch = Annotated[Annotated[float, Ge(0)] | None, shown("Rewind point in epochs", "Instead of a step.")]
Densities = Annotated[list[Annotated[float, Gt(0), Le(1)]], shown("Densities", "Fractions of the weights to keep.")]
Masks = Annotated[
    list[Annotated[str, _one_of("Mask", MASKS)]],
    shown("Masks", "How to choose the weights to keep; empty for all masks."),
]
