"""Plug-in modules as sources: modules of their own that they import are included, also in the digest.

They are imported from memory, so that the code that runs matches the digest, here and in other processes.
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
"""Parent package of imported files; each gets its own package, named by its digest."""
LENGTH = 16
"""Hexadecimal digits of a digest in a package name."""


@dataclass(frozen=True, slots=True)
class Source:
    """A module as text."""

    path: str
    content: bytes
    package: bool = False


Sources = Mapping[str, Source]
"""Sources by full module name."""
Find = Callable[[str], Source | None]


@dataclass(frozen=True, slots=True)
class Code:
    """A module with everything that it imports from its own package."""

    module: str
    """Its full name."""
    sources: Sources
    digest: str
    """Digest of every byte of the sources, independent of their location and package name."""


def in_folders(root: str, folders: Sequence[str]) -> Find:
    """A function that finds the modules of a package by full name in the package's folders."""

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
    """A module, with all modules that it imports, directly or indirectly, and their packages, as found by `find`."""
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
    """A file, with the neighbouring files that it imports by `from .other import name`."""
    found = code_of(f"{ROOT}.{file.stem}", in_folders(ROOT, [str(file.parent)]))
    package = f"{ROOT}.{file.stem}_{found.digest}"
    sources = {package + name.removeprefix(ROOT): source for name, source in found.sources.items()}
    return Code(module=f"{package}.{file.stem}", sources=sources, digest=found.digest)


def code_of_installed(module: str) -> Code:
    """A module of an installed package, with what it imports from that package; ImportError if there is no source."""
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
    """Full names that a module may import, anywhere in it; none if it is not valid Python, as its import reports."""
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
            except ImportError:  # outside the package
                continue
            yield base
            yield from (f"{base}.{alias.name}" for alias in node.names)


class Importer(importlib.abc.MetaPathFinder, importlib.abc.ExecutionLoader):
    """Imports modules from given sources."""

    def __init__(self) -> None:
        self._sources: dict[str, Source] = {ROOT: Source(ROOT, b"", package=True)}

    def add(self, sources: Sources) -> None:
        """Import these modules from their sources from now on, even if they are installed."""
        self._sources.update(sources)
        if self not in sys.meta_path:
            sys.meta_path.insert(0, self)

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """The import spec of a module; None if its source was not given."""
        if (source := self._sources.get(fullname)) is None:
            return None
        spec = importlib.util.spec_from_file_location(fullname, source.path, loader=self)
        if spec is not None and fullname.partition(".")[0] == ROOT and source.package:
            spec.submodule_search_locations = []  # import nothing that the digest does not cover
        return spec

    def get_filename(self, fullname: str) -> str:
        """The path of the source, as shown in tracebacks."""
        return self._source(fullname).path

    def get_source(self, fullname: str) -> str:
        """The source text."""
        return importlib.util.decode_source(self._source(fullname).content)

    def is_package(self, fullname: str) -> bool:
        """Whether it is a package."""
        return self._source(fullname).package

    def _source(self, fullname: str) -> Source:
        if fullname not in self._sources:
            raise ImportError(f"no source of {fullname}", name=fullname)
        return self._sources[fullname]


IMPORTER = Importer()
