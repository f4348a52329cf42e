"""Fields of the forms that start flows: title, description, choices, bounds and examples, each said once."""

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from annotated_types import Ge, Gt, Le
from pydantic import Field

from flows.shown import shown
from models.experiment import experiment_names, get_experiment
from models.run_spec import OPTIMIZERS
from models.start import MASKS
from tasks.analysis import analysis_names

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


Experiment = Annotated[str, shown("Experiment", "What is trained, on which kind of data.", choices=experiment_names())]
Preset = Annotated[
    str,
    shown(
        "Preset",
        "Network, data, optimizer and schedule. `usual` trains in minutes; one that the experiment does not have is "
        "refused with those it has.",
        choices=preset_names(),
    ),
]
Decays = Annotated[
    list[Annotated[float, Ge(0)]], shown("Weight decays", "A grid; empty for the preset's own.", [[0.0, 0.3, 1.0]])
]
Seeds = Annotated[list[Annotated[int, Ge(0)]], shown("Seeds", "A grid; empty for the preset's own.", [[0, 1, 2]])]
MoreSeeds = Annotated[
    int,
    Ge(0),
    shown(
        "New seeds at each call",
        "Once all runs of the sweep are done, a further call adds so many seeds to it. For schedules; 0 adds none.",
        [1],
    ),
]
Optimizers = Annotated[
    list[Annotated[str, _one_of("Optimizer", OPTIMIZERS)]],
    shown("Optimizers", "A grid; empty for the preset's own.", [["adamw", "muon"]]),
]
Analyses = Annotated[
    list[Annotated[str, _one_of("Analysis", analysis_names())]],
    shown("Analyses", "What is measured of every checkpoint; empty for all usual ones.", [["spectrum", "agreement"]]),
]
Axes = Annotated[
    dict[str, list[Any]],
    shown("Further axes", "Any setting of a run with its grid of values, as JSON.", [{"learning_rate": [0.001, 0.01]}]),
]
Settings = Annotated[
    dict[str, Any],
    shown("Settings", "Settings that every run has in place of the preset's, as JSON.", [{"steps": 1000}]),
]
SweepName = Annotated[
    str,
    shown(
        "Name of the sweep",
        "Calls with one name extend one cube; empty for experiment-preset. Letters, digits, '.', '_' and '-'.",
        ["modular_addition-demo"],
    ),
]
GraphName = Annotated[
    str,
    shown("Name of the results", "Empty for experiment-preset. Letters, digits, '.', '_' and '-'.", ["rewinding"]),
]
Store = Annotated[
    str,
    shown(
        "Store",
        "Folder or s3://bucket/prefix; empty for that of the service. Keys come from the environment, never from here.",
        ["results", "s3://lab/specdyn"],
    ),
]
ExecutorKind = Annotated[
    Literal["ray", "inline"],
    shown("Executor", "Where units of work run: on Ray, or in the flow's own process, one at a time."),
]
RayAddress = Annotated[
    str,
    shown("Ray cluster", "Address of one that runs; empty for that of the service, else one is started.", ["auto"]),
]
UnitResources = shown("Resources of a unit", "A unit is one training, one block of checkpoints or one pair.")
Report = Annotated[bool, shown("Draw figures", "Write figures at the end and show them here.")]
RetryFailed = Annotated[
    bool,
    shown("Retry failed runs", "Train runs again that diverged in an earlier call; otherwise they stay failed."),
]
DryRun = Annotated[bool, shown("Only plan", "Show what is there, what would run and what it costs, and run nothing.")]
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
        "Regular expression with a group around the step in a name; empty for the usual ones.",
        [r"run-(\d+)"],
    ),
]
Heads = Annotated[
    int,
    Ge(0),
    shown("Attention heads", "To compare queries and keys of fused projections head by head; 0 leaves that out."),
]
Transposed = Annotated[
    str, shown("Transposed convolutions", "Regular expression that finds transposed convolutions by name.")
]
Audited = Annotated[
    bool, shown("Audit first", "Look for damaged, missing and repeated checkpoints, which reads every tensor once.")
]

TrunkSeeds = Annotated[list[Annotated[int, Ge(0)]], shown("Seeds of the trunks", "One trunk each.", [[0, 1, 2]])]
Splits = Annotated[
    list[Annotated[int, Ge(0)]],
    shown("Split points", "Steps to branch at, checkpoints of the trunks; or a number of them.", [[0, 50, 500]]),
]
SplitEpochs = Annotated[
    list[Annotated[float, Ge(0)]], shown("Split points in epochs", "Instead of steps.", [[0, 0.2, 1, 4]])
]
SplitCount = Annotated[
    int,
    Ge(1),
    shown("Number of split points", "Where none are given; half lie in the first epoch. Ten are the paper's."),
]
Orders = Annotated[
    list[Annotated[int, Ge(0)]],
    shown("Seeds of the data orders", "One branch each; they seed masks too. Empty for new ones.", [[3, 4, 5]]),
]
Sizes = Annotated[
    list[Annotated[float, Ge(0)]],
    shown(
        "Sizes of a perturbation", "Relative to the weights, at the last split; empty for none.", [[0, 0.1, 0.25, 1]]
    ),
]
Directions = Annotated[
    list[Annotated[str, _one_of("Direction", ("random", "top", "bottom"))]],
    shown("Directions of a perturbation", "Random, or along the top or bottom singular directions; empty for random."),
]
Across = Annotated[bool, shown("Connect across trunks", "Branches of different trunks too, as a control.")]
Layerwise = Annotated[
    bool, shown("Layer by layer", "Interpolate each layer alone too; costs ten evaluations a layer and pair.")
]
CurveSteps = Annotated[
    int, Ge(0), shown("Steps of a curve", "Updates of the control point of a curve between two ends; 0 for no curves.")
]
Points = Annotated[int, Ge(3), shown("Points of a line", "Places on each line, evenly spaced, its ends among them.")]
Retrain = Annotated[
    bool, shown("Train trunks again", "Where a finished trunk did not keep its state at a step that is needed.")
]
Rewind = Annotated[
    Annotated[int, Ge(0)] | None,
    shown("Rewind step", "Tickets train from this checkpoint; empty for the first one after an epoch."),
]
RewindEpoch = Annotated[Annotated[float, Ge(0)] | None, shown("Rewind point in epochs", "Instead of a step.")]
Densities = Annotated[list[Annotated[float, Gt(0), Le(1)]], shown("Densities", "Shares of the weights that are kept.")]
Masks = Annotated[
    list[Annotated[str, _one_of("Mask", MASKS)]],
    shown("Masks", "How the kept weights are chosen; empty for all."),
]
