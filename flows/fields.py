"""Parameters shared by several flows: type, title, text, choices and examples."""

from typing import Annotated, Any, Literal

from annotated_types import Ge

from specdyn.flows.shown import Shown

USUAL = "usual"
"""Stands for an experiment's default preset."""


def experiment_names() -> list[str]:
    """Names of all experiments; imported late, as most commands do not need them."""
    from specdyn.models.experiments import base

    return base.experiment_names()


def analysis_names() -> list[str]:
    """Names of all analyses."""
    from specdyn.tasks.spectra import analysis

    return analysis.analysis_names()


def preset_names() -> list[str]:
    """Names of the presets of all experiments, the usual one first."""
    from specdyn.models.experiments.base import EXPERIMENTS
    from specdyn.models.plugins import kinds

    return [USUAL, *sorted({name for found in kinds.usable(EXPERIMENTS).values() for name in found.presets})]


def named_preset(experiment: str, preset: str) -> str:
    """The preset selected in a form or a command."""
    from specdyn.models.experiments.base import get_experiment

    return get_experiment(experiment).usual if preset == USUAL else preset


ExperimentName = Annotated[
    str,
    Shown(
        title="Experiment",
        about="The network and the data to train on.",
        choices=experiment_names,
        see="specdyn list experiments",
    ),
]
PresetName = Annotated[
    str,
    Shown(
        title="Preset",
        about="Network, data, optimizer and schedule. `usual` is the experiment's quickest preset; a preset that the "
        "experiment lacks is refused, with a list of its presets.",
        choices=preset_names,
        see="specdyn list presets",
        flags=("--preset", "-p"),
    ),
]
Settings = Annotated[
    dict[str, Any],
    Shown(
        title="Settings",
        about="Settings of every run that replace the preset's.",
        examples=[{"steps": 1000}],
        flags=("--set",),
    ),
]
Analyses = Annotated[
    list[Annotated[str, Shown(title="Analysis", choices=analysis_names)]],
    Shown(
        title="Analyses",
        about="What to compute for every checkpoint.",
        default="the usual ones",
        examples=[["spectrum", "agreement"]],
        see="specdyn list analyses",
    ),
]
Labels = Annotated[
    dict[str, Any],
    Shown(
        title="Labels",
        about="Settings of every series, by which figures group them: true, false, numbers or words. Also read from "
        "files next to the checkpoints: labels.json, training_args.bin, hparams.yaml.",
        examples=[{"weight_decay": 1, "seed": 0}],
        flags=("--label",),
    ),
]
MetricsFile = Annotated[
    str,
    Shown(
        title="Metrics",
        about="File of JSON lines or CSV with losses or other metrics by step, or a folder of such files.",
        default="metrics.jsonl, metrics/*.jsonl, trainer_state.json or metrics.csv next to the checkpoints",
        examples=["log.jsonl"],
    ),
]
StudyName = Annotated[
    str,
    Shown(
        title="Name of the results",
        about="Calls with one name extend the same results. Letters, digits, '.', '_', '=' and '-'.",
        default="derived from the experiment, the preset and the changed settings",
        examples=["rewinding"],
        flags=("--name", "-n"),
    ),
]
StoreUrl = Annotated[
    str,
    Shown(
        title="Store",
        about="Local folder or s3://bucket/prefix. Credentials come from the environment, not from here.",
        default="the service's",
        examples=["results", "s3://lab/specdyn"],
    ),
]
ExecutorKind = Annotated[
    Literal["ray", "inline"],
    Shown(title="Executor", about="`ray` (parallel) or `inline` (the flow's own process, one task at a time)."),
]
SeriesExecutorKind = Annotated[
    Literal["auto", "ray", "inline"],
    Shown(
        title="Executor",
        about="`ray` (parallel), `inline` (the flow's own process, one task at a time), or `auto`: Ray, unless the "
        "work takes seconds; then a command does it at once, without Prefect or Ray.",
    ),
]
RayAddress = Annotated[
    str,
    Shown(
        title="Ray cluster",
        about="Address of a running Ray cluster.",
        default="the service's cluster, or a new one on this machine",
        examples=["auto"],
    ),
]
Report = Annotated[bool, Shown(title="Write the report", about="Write the HTML report.")]
RetryFailed = Annotated[
    bool,
    Shown(
        title="Retry failed runs",
        about="Retrain runs that diverged in an earlier call; otherwise they stay failed.",
        flags=("--retry-failed",),
    ),
]
DryRun = Annotated[
    bool,
    Shown(
        title="Only plan",
        about="Show what is done, what would run and what it would cost; run nothing.",
        flags=("--plan",),
    ),
]
Orders = Annotated[
    list[Annotated[int, Ge(0)]],
    Shown(
        title="Seeds of the data orders",
        about="Each base run is forked once per seed.",
        default="new ones",
        examples=[[3, 4, 5]],
    ),
]
TicketOrders = Annotated[
    list[Annotated[int, Ge(0)]],
    Shown(
        title="Seeds of the data orders",
        about="Each mask is retrained once per seed, which also seeds random masks.",
        default="new ones",
        examples=[[3, 4]],
    ),
]
BaseSeeds = Annotated[
    list[Annotated[int, Ge(0)]],
    Shown(
        title="Seeds of the base runs",
        about="One base run (trunk) per seed.",
        examples=[[0, 1, 2]],
        flags=("--seeds", "-s"),
    ),
]
Retrain = Annotated[
    bool,
    Shown(
        title="Retrain base runs",
        about="Retrain a finished base run up to a step whose training state was not kept.",
    ),
]
