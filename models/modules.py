"""Names of what is declared in a folder, a module each: looked up once, as studies ask for them for each run."""

import functools
import pkgutil
from types import ModuleType


def module_names(package: ModuleType) -> list[str]:
    """Names of the modules of a package, sorted, without importing them; `base` and packages in it are left out.

    Each folder is listed once a process: a module that is added later is found by the next one.
    """
    return list(_in(tuple(package.__path__)))


@functools.cache
def _in(folders: tuple[str, ...]) -> tuple[str, ...]:
    found = (module for module in pkgutil.iter_modules(folders) if not module.ispkg)
    return tuple(sorted(module.name for module in found if module.name != "base"))
