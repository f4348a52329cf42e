"""Imports libraries that only some data sets need and that an extra of the package installs."""

import importlib
from typing import Any


def require_extra(module: str, extra: str, purpose: str) -> Any:
    """Import a module; ImportError names the purpose and the extra to install if it is missing."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ImportError(f"{purpose} needs {module!r}: install it with `pip install 'specdyn[{extra}]'`") from error
