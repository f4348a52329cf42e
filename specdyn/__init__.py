"""specdyn: the singular values and vectors of weight matrices while networks train.

`analyse` and `table` look at models and checkpoints in this process, `run` trains and analyses a sweep, `open` opens
the results of a study, `compare` puts several side by side, `Recorder` records a training loop of one's own. Nothing
heavy is imported before it is used.
"""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from specdyn.storage.query import grid as grid
    from specdyn.storage.query import open_study as open
    from specdyn.tasks.library.analysed import analyse as analyse
    from specdyn.tasks.library.comparison import compare as compare
    from specdyn.tasks.library.sweep import run as run
    from specdyn.tasks.library.table import table as table
    from specdyn.tasks.recording.recorder import Recorder as Recorder

OFFERED = {
    "Recorder": "specdyn.tasks.recording.recorder:Recorder",
    "analyse": "specdyn.tasks.library.analysed:analyse",
    "compare": "specdyn.tasks.library.comparison:compare",
    "grid": "specdyn.storage.query:grid",
    "open": "specdyn.storage.query:open_study",
    "run": "specdyn.tasks.library.sweep:run",
    "table": "specdyn.tasks.library.table:table",
}
"""Where each name comes from; imported when it is first used."""
PACKAGES = ("flows", "models", "storage", "tasks")

__all__ = ["Recorder", "analyse", "compare", "grid", "open", "run", "table"]


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
