"""Lists the modules of a package, cached since studies look them up for every run."""

import functools
import pkgutil
from types import ModuleType


def module_names(package: ModuleType) -> list[str]:
    """Names of the modules of a package, sorted, without importing them; `base` and packages in it are left out.

    Each folder is listed once per process, so a module added later is found only by the next process.
    """
    return list(_in(tuple(package.__path__)))


@functools.cache
def _in(folders: tuple[str, ...]) -> tuple[str, ...]:
    found = (module for module in pkgutil.iter_modules(folders) if not module.ispkg)
    return tuple(sorted(module.name for module in found if module.name != "base"))
