"""specdyn: singular values and vectors of weight matrices during training.

`analyse` and `table` measure models and checkpoints in this process, `run` trains and analyses a sweep, `open` opens
the results of a study, `compare` puts several side by side, `connect` measures lines between trained networks,
`Recorder` records your own training loop. The other functions query results, like the methods of their `specdyn`
attribute.
Nothing heavy is imported before it is used.
"""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from specdyn.storage.query import grid as grid
    from specdyn.tasks.library.analysed import analyse as analyse
    from specdyn.tasks.library.by_depth import by_depth as by_depth
    from specdyn.tasks.library.by_depth import predicts_pruning as predicts_pruning
    from specdyn.tasks.library.comparison import compare as compare
    from specdyn.tasks.library.connecting import connect as connect
    from specdyn.tasks.library.drawing import figure as figure
    from specdyn.tasks.library.frames import to_dataframe as to_dataframe
    from specdyn.tasks.library.judged import advice as advice
    from specdyn.tasks.library.judged import claims as claims
    from specdyn.tasks.library.judged import counterexamples as counterexamples
    from specdyn.tasks.library.nets import load_net as load_net
    from specdyn.tasks.library.opened import opened as open
    from specdyn.tasks.library.questions import above_chance as above_chance
    from specdyn.tasks.library.questions import grok_step as grok_step
    from specdyn.tasks.library.questions import mean_over as mean_over
    from specdyn.tasks.library.questions import scores as scores
    from specdyn.tasks.library.sweep import run as run
    from specdyn.tasks.library.table import table as table
    from specdyn.tasks.recording.recorder import Recorder as Recorder
    from specdyn.tasks.timing.edges import edge_lead as edge_lead
    from specdyn.tasks.timing.runs import timing as timing

OFFERED = {
    "Recorder": "specdyn.tasks.recording.recorder:Recorder",
    "above_chance": "specdyn.tasks.library.questions:above_chance",
    "advice": "specdyn.tasks.library.judged:advice",
    "analyse": "specdyn.tasks.library.analysed:analyse",
    "by_depth": "specdyn.tasks.library.by_depth:by_depth",
    "claims": "specdyn.tasks.library.judged:claims",
    "compare": "specdyn.tasks.library.comparison:compare",
    "connect": "specdyn.tasks.library.connecting:connect",
    "counterexamples": "specdyn.tasks.library.judged:counterexamples",
    "edge_lead": "specdyn.tasks.timing.edges:edge_lead",
    "figure": "specdyn.tasks.library.drawing:figure",
    "grid": "specdyn.storage.query:grid",
    "grok_step": "specdyn.tasks.library.questions:grok_step",
    "load_net": "specdyn.tasks.library.nets:load_net",
    "mean_over": "specdyn.tasks.library.questions:mean_over",
    "open": "specdyn.tasks.library.opened:opened",
    "predicts_pruning": "specdyn.tasks.library.by_depth:predicts_pruning",
    "run": "specdyn.tasks.library.sweep:run",
    "scores": "specdyn.tasks.library.questions:scores",
    "table": "specdyn.tasks.library.table:table",
    "timing": "specdyn.tasks.timing.runs:timing",
    "to_dataframe": "specdyn.tasks.library.frames:to_dataframe",
}
"""Module of each public name; imported when the name is first used."""
PACKAGES = ("flows", "models", "storage", "tasks")

__all__ = [
    "Recorder",
    "above_chance",
    "advice",
    "analyse",
    "by_depth",
    "claims",
    "compare",
    "connect",
    "counterexamples",
    "edge_lead",
    "figure",
    "grid",
    "grok_step",
    "load_net",
    "mean_over",
    "open",
    "predicts_pruning",
    "run",
    "scores",
    "table",
    "timing",
    "to_dataframe",
]


def __getattr__(name: str) -> object:
    """Import a name when it is first used."""
    if name in OFFERED:
        module, _, attribute = OFFERED[name].partition(":")
        return getattr(importlib.import_module(module), attribute)
    if name in PACKAGES:
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__, *PACKAGES])
