"""Modules from outside the package as sources: what they import of their own is part of them, and of their digest.

They are imported from memory, so that what runs is what the digest is of, here and where the sources are sent to.
"""

import ast
import hashlib
import importlib.abc
import importlib.machinery
import importlib.util
import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

ROOT = "specdyn_plugins"
"""The package in which files are imported, each in a package of its own that is named by its digest."""
LENGTH = 16
"""Hexadecimal digits of a digest."""


@dataclass(frozen=True, slots=True)
class Source:
    """A module as text."""

    path: str
    content: bytes
    package: bool = False


Sources = Mapping[str, Source]
"""By the full name of the module."""
Find = Callable[[str], Source | None]


@dataclass(frozen=True, slots=True)
class Code:
    """A module with all that it imports of its own package."""

    module: str
    """Its full name."""
    sources: Sources
    digest: str
    """Of every byte of the sources, wherever they lie and whatever the package is called."""


def in_folders(root: str, folders: Sequence[str]) -> Find:
    """What finds the modules of a package, by their full names, in the package's folders."""

    def find(module: str) -> Source | None:
        if module != root and not module.startswith(f"{root}."):
            return None
        inside = module.removeprefix(root).split(".")[1:]
        for folder in folders:
            place = Path(folder, *inside)
            init, file = place / "__init__.py", place.with_name(f"{place.name}.py")
            if init.is_file():
                return Source(str(init), init.read_bytes(), package=True)
            if inside and file.is_file():
                return Source(str(file), file.read_bytes())
            if place.is_dir():
                return Source(str(init), b"", package=True)
        return None

    return find


def code_of(module: str, find: Find) -> Code:
    """A module that `find` finds, with those that it imports, directly or not, and the packages that they lie in."""
    found: dict[str, Source] = {}
    ahead = [module]
    while ahead:
        name = ahead.pop()
        if name in found or not name:
            continue
        ahead.append(name.rpartition(".")[0])
        if source := find(name):
            found[name] = source
            ahead += imported(name, source)
    if module not in found:
        raise ImportError(f"there is no Python source of {module}")
    root = module.partition(".")[0]
    named = {name.removeprefix(root): source for name, source in found.items() if name != module and source.content}
    parts = [[name, hashlib.sha256(source.content).hexdigest()] for name, source in sorted(named.items())]
    own = hashlib.sha256(found[module].content).hexdigest()
    digest = hashlib.sha256(json.dumps([own, parts]).encode()).hexdigest()[:LENGTH]
    return Code(module=module, sources=found, digest=digest)


def code_of_file(file: Path) -> Code:
    """A file with those beside it that it imports by `from .other import name`."""
    found = code_of(f"{ROOT}.{file.stem}", in_folders(ROOT, [str(file.parent)]))
    package = f"{ROOT}.{file.stem}_{found.digest}"
    sources = {package + name.removeprefix(ROOT): source for name, source in found.sources.items()}
    return Code(module=f"{package}.{file.stem}", sources=sources, digest=found.digest)


def code_of_installed(module: str) -> Code:
    """A module of an installed package, with what it imports of that package; ImportError where there is no source."""
    root = module.partition(".")[0]
    spec = importlib.util.find_spec(root)
    if spec is None:
        raise ModuleNotFoundError(f"No module named {root!r}")
    if spec.submodule_search_locations is not None:
        return code_of(module, in_folders(root, list(spec.submodule_search_locations)))
    origin = Path(spec.origin or "")

    def find(name: str) -> Source | None:
        return Source(str(origin), origin.read_bytes()) if name == root and origin.suffix == ".py" else None

    return code_of(module, find)


def imported(module: str, source: Source) -> Iterator[str]:
    """Full names that a module may import, anywhere in it; none where it is no Python, which its import tells."""
    try:
        tree = ast.parse(source.content)
    except (SyntaxError, ValueError):
        return
    package = module if source.package else module.rpartition(".")[0]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            try:
                base = importlib.util.resolve_name("." * node.level + (node.module or ""), package)
            except ImportError:  # beyond the package
                continue
            yield base
            yield from (f"{base}.{alias.name}" for alias in node.names)


class Importer(importlib.abc.MetaPathFinder, importlib.abc.ExecutionLoader):
    """Imports the modules whose sources it was given."""

    def __init__(self) -> None:
        self._sources: dict[str, Source] = {ROOT: Source(ROOT, b"", package=True)}

    def add(self, sources: Sources) -> None:
        """Have these modules imported from their sources from now on, also where such are installed."""
        self._sources.update(sources)
        if self not in sys.meta_path:
            sys.meta_path.insert(0, self)

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """How to import a module; None where it was not given."""
        if (source := self._sources.get(fullname)) is None:
            return None
        spec = importlib.util.spec_from_file_location(fullname, source.path, loader=self)
        if spec is not None and fullname.partition(".")[0] == ROOT and source.package:
            spec.submodule_search_locations = []  # what the digest is not of is not imported
        return spec

    def get_filename(self, fullname: str) -> str:
        """Where the source was read, which tracebacks show."""
        return self._source(fullname).path

    def get_source(self, fullname: str) -> str:
        """The text."""
        return importlib.util.decode_source(self._source(fullname).content)

    def is_package(self, fullname: str) -> bool:
        """Whether it is a package."""
        return self._source(fullname).package

    def _source(self, fullname: str) -> Source:
        if fullname not in self._sources:
            raise ImportError(f"no source of {fullname}", name=fullname)
        return self._sources[fullname]


IMPORTER = Importer()
