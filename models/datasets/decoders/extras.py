"""Libraries that only some data sets need, and that come with an extra of the package."""

import importlib
from typing import Any


def require_extra(module: str, extra: str, purpose: str) -> Any:
    """The module, imported; ImportError naming the purpose and the extra to install where it is absent."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ImportError(f"{purpose} needs {module!r}: install it with `pip install 'specdyn[{extra}]'`") from error
