"""References to functions that are imported only when called, so that read-only commands do not import torch."""

import importlib
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Later:
    """A function by module and name, for example `specdyn.tasks.connect.line` and `connect`."""

    module: str
    name: str

    def __call__(self, *args: Any) -> Any:
        return getattr(importlib.import_module(self.module), self.name)(*args)
