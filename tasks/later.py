"""Functions of modules that are imported where they run: who only looks does without torch."""

import importlib
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Later:
    """A function by the names of its module and its own, as `specdyn.tasks.connect.line` and `connect`."""

    module: str
    name: str

    def __call__(self, *args: Any) -> Any:
        return getattr(importlib.import_module(self.module), self.name)(*args)
