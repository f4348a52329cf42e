"""The parameters of every flow, declared once for its form, its command and Python calls."""

import dataclasses
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar

from annotated_types import Ge, Gt, Le

from specdyn.flows import fields
from specdyn.flows.resources import Resources
from specdyn.flows.shown import Shown
from specdyn.models.spec.parts import OPTIMIZERS
from specdyn.models.spec.start import MASKS
from specdyn.tasks.foreign.names import TRANSPOSED

Count = Annotated[int, Ge(0)]
TITLE = "Resources of a task"
SweepResources = Annotated[Resources, Shown(title=TITLE, about="A task is one training or one block of checkpoints.")]
LineResources = Annotated[Resources, Shown(title=TITLE, about="A task is one training, one end or one line.")]
TicketResources = Annotated[Resources, Shown(title=TITLE, about="A task is one training or one ticket.")]
SeriesResources = Annotated[Resources, Shown(title=TITLE, about="A task is one block of checkpoints.")]


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepParameters:
    """A grid of weight decays, seeds and any other settings to train and analyse."""

    experiment: fields.ExperimentName = "modular_addition"
    preset: fields.PresetName = fields.USUAL
    weight_decays: Annotated[
        list[Annotated[float, Ge(0)]],
        Shown(
            title="Weight decays",
            about="Weight decays to train with.",
            default="the preset's",
            examples=[[0.0, 0.3, 1.0]],
            flags=("--weight-decays", "-w"),
        ),
    ] = field(default_factory=list)
    seeds: Annotated[
        list[Count],
        Shown(
            title="Seeds",
            about="Seeds to train with.",
            default="the preset's",
            examples=[[0, 1, 2]],
            flags=("--seeds", "-s"),
        ),
    ] = field(default_factory=list)
    optimizers: Annotated[
        list[Annotated[str, Shown(title="Optimizer", choices=lambda: OPTIMIZERS)]],
        Shown(
            title="Optimizers",
            about="Optimizers to train with.",
            default="the preset's",
            examples=[["adamw", "muon"]],
            in_command=False,  # in the command they are an axis like any other
        ),
    ] = field(default_factory=list)
    axes: Annotated[
        dict[str, list[Any]],
        Shown(
            title="Further axes",
            about="Values of any other setting to train with.",
            examples=[{"learning_rate": [0.001, 0.01]}],
            flags=("--axis", "-a"),
        ),
    ] = field(default_factory=dict)
    settings: fields.Settings = field(default_factory=dict)
    sweep: Annotated[
        str,
        Shown(
            title="Name of the sweep",
            about="Calls with one name extend the same results. Letters, digits, '.', '_', '=' and '-'.",
            default="experiment-preset, with the axes and the settings changed",
            examples=["modular_addition-demo"],
            flags=("--sweep", "-n"),
        ),
    ] = ""
    dry_run: fields.DryRun = False
    analyses: fields.Analyses = field(default_factory=list)
    report: fields.Report = True
    retry_failed: fields.RetryFailed = False
    more_seeds: Annotated[
        int,
        Ge(0),
        Shown(
            title="New seeds at each call",
            about="How many seeds a repeated call adds once all runs are done. For schedules; 0 adds none.",
            examples=[1],
            in_command=False,
        ),
    ] = 0
    store: fields.StoreUrl = ""
    executor: fields.ExecutorKind = "ray"
    ray_address: fields.RayAddress = ""
    resources: SweepResources = Resources()  # noqa: RUF009 - frozen


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectParameters:
    """Base runs to fork at several steps, and the lines between the forks' final weights to measure."""

    experiment: fields.ExperimentName = "modular_addition"
    preset: fields.PresetName = fields.USUAL
    settings: fields.Settings = field(default_factory=dict)
    seeds: fields.BaseSeeds = field(default_factory=lambda: [0, 1, 2])
    splits: Annotated[
        list[Count],
        Shown(
            title="Split points",
            about="Steps to fork the base runs at, which must have a checkpoint.",
            default="a number of them, half in the first epoch",
            examples=[[0, 50, 500]],
        ),
    ] = field(default_factory=list)
    split_epochs: Annotated[
        list[Annotated[float, Ge(0)]],
        Shown(title="Split points in epochs", about="Epochs to fork at instead of steps.", examples=[[0, 0.2, 1, 4]]),
    ] = field(default_factory=list)
    split_count: Annotated[
        int,
        Ge(1),
        Shown(
            title="Number of split points",
            about="How many steps to fork at if no split points are given; the paper uses 10.",
        ),
    ] = 5
    orders: fields.Orders = field(default_factory=list)
    name: fields.StudyName = ""
    dry_run: fields.DryRun = False
    across: Annotated[
        bool,
        Shown(
            title="Connect across base runs",
            about="Also interpolate between forks of different base runs, as a control.",
        ),
    ] = True
    sizes: Annotated[
        list[Annotated[float, Ge(0)]],
        Shown(
            title="Sizes of a perturbation",
            about="Sizes of a weight perturbation at the last fork, relative to the weights.",
            default="no perturbation",
            examples=[[0, 0.1, 0.25, 1]],
        ),
    ] = field(default_factory=list)
    directions: Annotated[
        list[Annotated[str, Shown(title="Direction", choices=lambda: ("random", "top", "bottom"))]],
        Shown(
            title="Directions of a perturbation",
            about="`random`, or along the `top` or `bottom` singular vectors.",
            default="random",
        ),
    ] = field(default_factory=list)
    layerwise: Annotated[
        bool,
        Shown(
            title="Layer by layer",
            about="Also interpolate one layer at a time; costs ten evaluations per layer and pair.",
        ),
    ] = False
    points: Annotated[
        int, Ge(3), Shown(title="Points of a line", about="Points on each line, evenly spaced, including both ends.")
    ] = 11
    curve_steps: Annotated[
        int,
        Ge(0),
        Shown(
            title="Steps of a curve",
            about="Updates to train a curve between two final weights with; 0 trains none.",
        ),
    ] = 0
    report: fields.Report = True
    retry_failed: fields.RetryFailed = False
    retrain: fields.Retrain = True
    store: fields.StoreUrl = ""
    executor: fields.ExecutorKind = "ray"
    ray_address: fields.RayAddress = ""
    resources: LineResources = Resources()  # noqa: RUF009 - frozen


@dataclass(frozen=True, slots=True, kw_only=True)
class TicketParameters:
    """Base runs to prune by their final weights, rewind and retrain."""

    experiment: fields.ExperimentName = "modular_addition"
    preset: fields.PresetName = fields.USUAL
    settings: fields.Settings = field(default_factory=dict)
    seeds: fields.BaseSeeds = field(default_factory=lambda: [0])
    densities: Annotated[
        list[Annotated[float, Gt(0), Le(1)]], Shown(title="Densities", about="Fractions of the weights to keep.")
    ] = field(default_factory=lambda: [0.1, 0.2, 0.3, 0.5, 0.8])
    masks: Annotated[
        list[Annotated[str, Shown(title="Mask", choices=lambda: MASKS)]],
        Shown(title="Masks", about="How to choose the weights to keep.", default="all masks", examples=[list(MASKS)]),
    ] = field(default_factory=list)
    rewind: Annotated[
        Count | None,
        Shown(title="Rewind step", about="Checkpoint to rewind to.", default="the first one after an epoch"),
    ] = None
    rewind_epoch: Annotated[
        Annotated[float, Ge(0)] | None,
        Shown(title="Rewind point in epochs", about="Epoch to rewind to instead of a step."),
    ] = None
    orders: fields.TicketOrders = field(default_factory=list)
    name: fields.StudyName = ""
    dry_run: fields.DryRun = False
    report: fields.Report = True
    retry_failed: fields.RetryFailed = False
    retrain: fields.Retrain = True
    store: fields.StoreUrl = ""
    executor: fields.ExecutorKind = "ray"
    ray_address: fields.RayAddress = ""
    resources: TicketResources = Resources()  # noqa: RUF009 - frozen


@dataclass(frozen=True, slots=True, kw_only=True)
class AnalyseParameters:
    """Series of checkpoints that other programs wrote, to audit and analyse."""

    dry_run: ClassVar[bool] = False
    retry_failed: ClassVar[bool] = False  # nothing is trained

    sources: Annotated[
        list[str],
        Shown(
            title="Series of checkpoints",
            about="Folders, files, s3:// URLs or hf://organisation/name, each with the checkpoints of one run.",
            examples=[["s3://lab/runs/gpt-small"], ["hf://EleutherAI/pythia-70m"]],
        ),
    ]
    name: fields.StudyName = ""
    labels: fields.Labels = field(default_factory=dict)
    metrics: fields.MetricsFile = ""
    analyses: fields.Analyses = field(default_factory=list)
    revisions: Annotated[
        str,
        Shown(
            title="Revisions",
            about="Pattern for revisions of a Hub repository; each revision is a checkpoint.",
            default="only the main revision, or the one in the URL",
            examples=["step*"],
        ),
    ] = ""
    weights: Annotated[
        str,
        Shown(
            title="Set of weights",
            about="Which weights to analyse if a checkpoint has several: `raw`, `ema`, or the start of a set's name.",
            default="weights that are not a running mean",
            examples=["ema"],
        ),
    ] = ""
    key: Annotated[
        str,
        Shown(
            title="Key of the weights",
            about="Key of the state dict in files of torch.save; join the keys of nested dicts by dots.",
            default="the usual keys, or the only state dict",
            examples=["generator"],
        ),
    ] = ""
    part: Annotated[
        str,
        Shown(
            title="Part of the model",
            about="Folder in each checkpoint that holds the weights to analyse, if there are several.",
            default="the usual one",
            examples=["unet"],
        ),
    ] = ""
    heads: Annotated[
        int,
        Ge(0),
        Shown(
            title="Attention heads",
            about="Number of attention heads, to compare queries with keys and values with outputs head by head; "
            "0 takes it from config.json.",
        ),
    ] = 0
    pairs: Annotated[
        str,
        Shown(
            title="Pairs of layers",
            about="File with the pairs to compare, for networks of unknown families: two names per line, the layer "
            "that writes and the one that reads. {n} stands for a number, {n+1} for the next one, * for any text.",
            default="the pairs of the family",
            examples=["pairs.txt"],
        ),
    ] = ""
    pattern: Annotated[
        str,
        Shown(
            title="Pattern of steps",
            about="Regular expression whose group is the step in a file name, or with groups `epoch` and `iteration`.",
            default="the usual patterns",
            examples=[r"run-(\d+)", r"ep(?P<epoch>\d+)_it(?P<iteration>\d+)"],
        ),
    ] = ""
    steps_per_epoch: Annotated[
        int,
        Ge(0),
        Shown(
            title="Steps per epoch",
            about="Optimizer steps per epoch, to turn epochs in names into steps; 0 keeps epochs.",
            examples=[782],
        ),
    ] = 0
    audited: Annotated[
        bool,
        Shown(
            title="Audit first",
            about="Check for damaged, missing and duplicate checkpoints first; reads every tensor once.",
            flags=("--audit/--no-audit",),
        ),
    ] = True
    skip_damaged: Annotated[
        bool,
        Shown(
            title="Skip damaged checkpoints",
            about="Leave out checkpoints in which the audit finds an error, and analyse the others.",
            flags=("--skip-damaged",),
        ),
    ] = False
    report: fields.Report = True
    transposed: Annotated[
        str,
        Shown(
            title="Transposed convolutions",
            about="Regular expression for the names of transposed convolutions.",
        ),
    ] = TRANSPOSED
    store: fields.StoreUrl = ""
    executor: fields.SeriesExecutorKind = "auto"
    ray_address: fields.RayAddress = ""
    resources: SeriesResources = Resources()  # noqa: RUF009 - frozen


Parameters = SweepParameters | ConnectParameters | TicketParameters | AnalyseParameters


def arguments_of(parameters: Parameters) -> dict[str, Any]:
    """The parameters as the arguments of their flow."""
    return {field.name: getattr(parameters, field.name) for field in dataclasses.fields(parameters)}
