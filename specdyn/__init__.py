"""specdyn: the singular values and vectors of weight matrices while networks train.

`specdyn.open` opens the results of a study; `specdyn.models`, `specdyn.storage`, `specdyn.tasks` and `specdyn.flows`
are the packages behind the command. Nothing heavy is imported before it is used.
"""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from specdyn.storage.query import open_results as open
    from specdyn.tasks.recording.recorder import Recorder

__all__ = ["Recorder", "open"]

PACKAGES = ("flows", "models", "storage", "tasks")


def __getattr__(name: str) -> object:
    """Import what is asked for when it is asked for."""
    if name == "open":
        from specdyn.storage.query import open_results

        return open_results
    if name == "Recorder":
        return importlib.import_module("specdyn.tasks.recording.recorder").Recorder
    if name in PACKAGES:
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__, *PACKAGES])
