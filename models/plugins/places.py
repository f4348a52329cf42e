"""Finds plug-ins in installed packages, and in files and folders that the user names.

Names are found without running anything: from the entry points of packages and the text of files.
"""

import ast
import functools
import importlib.metadata
import os
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from specdyn.models.plugins.sources import IMPORTER, Code, code_of_file, code_of_installed

PATHS = "SPECDYN_PLUGINS"
"""Environment variable with files and folders of plug-ins, separated as in PATH."""
OFF = "SPECDYN_NO_PLUGINS"
"""Environment variable that disables all plug-ins, unless it is 0."""
CONSTANTS = {
    "experiments": "EXPERIMENT",
    "analyses": "ANALYSIS",
    "datasets": "DATASETS",
    "families": "FAMILY",
    "figures": "FIGURE",
    "claims": "CLAIM",
}
"""The constant that holds the declaration of each kind. Entry point groups are `specdyn.` and the kind."""
PROJECT = "pyproject.toml"


@dataclass(frozen=True, eq=False, slots=True, kw_only=True)
class Plugin:
    """One declaration outside the package."""

    kind: str
    """One of CONSTANTS."""
    name: str
    place: str
    """The file, or the package with its version and the entry point."""
    attribute: str
    """The full name of its module."""
    code: Callable[[], Code]
    """Reads its sources; raises if there are none."""
    installed: bool
    """Whether its module is imported normally, not from the sources."""


def plugins() -> tuple[Plugin, ...]:
    """All plug-ins, looked up once per process. ValueError for an invalid path."""
    if _received:
        return _received[0][1]
    if os.environ.get(OFF, "0") not in ("", "0"):
        return ()
    return _found(os.environ.get(PATHS, ""), _working_folder())


def paths() -> list[str]:
    """The files and folders named by the environment and by the pyproject.toml of the working folder."""
    named = [path for path in os.environ.get(PATHS, "").split(os.pathsep) if path]
    return list(dict.fromkeys([*(str(_absolute(path)) for path in named), *_of_project(_working_folder())]))


def give(more: list[str]) -> None:
    """Add files and folders to search, for this process and its children."""
    places = [str(_absolute(path)) for path in more]
    for place in places:
        _require_place(place)
    known = [path for path in os.environ.get(PATHS, "").split(os.pathsep) if path]
    os.environ[PATHS] = os.pathsep.join(dict.fromkeys([*places, *known]))


def forget() -> None:
    """Clear the caches, so that plug-ins are searched for and read again."""
    _received.clear()
    _found.cache_clear()
    _of_project.cache_clear()


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """The plug-ins of a process, to be sent to another: unpickling it there makes exactly these known.

    Objects after it in the same pickle may be instances of their classes.
    """

    plugins: tuple[tuple[str, str, str, str, Code | None], ...]

    def __reduce__(self) -> tuple[Callable[..., "Sent"], tuple[object, ...]]:
        return receive, (self.plugins,)


def sent() -> Sent:
    """The plug-ins of this process, with their sources, or only names for those without."""
    return Sent(plugins=tuple((p.kind, p.name, p.place, p.attribute, _code(p)) for p in plugins()))


def receive(given: tuple[tuple[str, str, str, str, Code | None], ...]) -> Sent:
    """Use these as the plug-ins of this process, whatever is installed or named here."""
    if not _received or _received[0][0] != given:
        _received[:] = [(given, tuple(_of_sent(*one) for one in given))]
    return Sent(plugins=given)


_received: list[tuple[object, tuple[Plugin, ...]]] = []
"""The last plug-ins sent to this process; empty in a process that searches for its own."""


def _code(plugin: Plugin) -> Code | None:
    try:
        return plugin.code()
    except (ImportError, OSError):
        return None


def _of_sent(kind: str, name: str, place: str, attribute: str, code: Code | None) -> Plugin:
    if code is not None:
        IMPORTER.add(code.sources)

    def given() -> Code:
        if code is None:
            raise ImportError(f"there is no Python source of {place}")
        return code

    return Plugin(kind=kind, name=name, place=place, attribute=attribute, code=given, installed=False)


@functools.cache
def _found(_named: str, _folder: str) -> tuple[Plugin, ...]:
    files: dict[Path, None] = {}
    for path in paths():
        _require_place(path)
        place = Path(path).resolve()
        files |= dict.fromkeys([place] if place.is_file() else sorted(place.glob("*.py")))
    return (*_of_packages(), *(plugin for file in files for plugin in of_file(file)))


def _of_packages() -> Iterator[Plugin]:
    every, seen = importlib.metadata.entry_points(), set()
    for kind in CONSTANTS:
        for entry in every.select(group=f"specdyn.{kind}"):
            if (key := (kind, entry.name, entry.value)) in seen:  # a package found twice
                continue
            seen.add(key)
            package = f"{entry.dist.name} {entry.dist.version}, " if entry.dist else ""
            yield Plugin(
                kind=kind,
                name=entry.name,
                place=f"{package}{entry.value}",
                attribute=entry.attr,
                code=functools.cache(functools.partial(code_of_installed, entry.module)),
                installed=True,
            )


def of_file(file: Path) -> list[Plugin]:
    """The declarations at the top level of a file, without running it.

    A declaration is called by its `name` if that is a plain text, else like the file; so is every constant mentioned
    in a file that is not valid Python.
    """
    content = file.read_bytes()
    mentioned = {kind: file.stem for kind, constant in CONSTANTS.items() if constant.encode() in content}
    if not mentioned:
        return []
    try:
        names = _declared(ast.parse(content), file.stem)
    except (SyntaxError, ValueError):  # reported when it is imported
        names = mentioned
    code = functools.cache(functools.partial(code_of_file, file))
    return [
        Plugin(kind=kind, name=name, place=str(file), attribute=CONSTANTS[kind], code=code, installed=False)
        for kind, name in names.items()
    ]


def _declared(tree: ast.Module, stem: str) -> dict[str, str]:
    """Kind -> name of each declaration in a module."""
    assigned: dict[str, ast.expr] = {}
    for node in tree.body:
        if isinstance(node, ast.Assign):
            assigned |= {target.id: node.value for target in node.targets if isinstance(target, ast.Name)}
        elif isinstance(node, ast.AnnAssign) and node.value and isinstance(node.target, ast.Name):
            assigned[node.target.id] = node.value
    return {
        kind: _name(assigned[constant], assigned) or stem
        for kind, constant in CONSTANTS.items()
        if constant in assigned
    }


def _name(value: ast.expr, assigned: dict[str, ast.expr]) -> str:
    """The literal `name` of a declaration, or of the first of several in a dict; empty if there is none."""
    call = value.values[0] if isinstance(value, ast.Dict) and value.values else value
    keywords = call.keywords if isinstance(call, ast.Call) else []
    given = next((keyword.value for keyword in keywords if keyword.arg == "name"), None)
    if isinstance(given, ast.Name):
        given = assigned.get(given.id)
    return given.value if isinstance(given, ast.Constant) and isinstance(given.value, str) else ""


def _working_folder() -> str:
    """The working folder; empty if it was removed."""
    try:
        return os.getcwd()
    except FileNotFoundError:
        return ""


def _absolute(path: str) -> Path:
    return Path(os.path.abspath(Path(path).expanduser()))


def _require_place(path: str) -> None:
    place = Path(path)
    if not place.is_dir() and not (place.is_file() and place.suffix == ".py"):
        is_what = "is not a Python file" if place.exists() else "does not exist"
        raise ValueError(
            f"plug-in {path} {is_what}: expected a .py file or a folder of them; plug-ins are named by --plugins, "
            f"{PATHS} and [tool.specdyn] in {PROJECT}"
        )


@functools.cache
def _of_project(folder: str) -> tuple[str, ...]:
    """The plug-ins named by the pyproject.toml of a folder or of its nearest parent."""
    for place in (Path(folder), *Path(folder).parents):
        file = place / PROJECT
        if not file.is_file():
            continue
        try:
            named = tomllib.loads(file.read_text()).get("tool", {}).get("specdyn", {}).get("plugins", [])
        except (tomllib.TOMLDecodeError, UnicodeDecodeError, AttributeError) as error:
            raise ValueError(f"{file} cannot be read: {error}") from None
        if not isinstance(named, list) or not all(isinstance(path, str) for path in named):
            raise ValueError(f"{file}: [tool.specdyn] plugins={named!r} is not allowed: expected a list of paths")
        return tuple(os.path.abspath(place / Path(path).expanduser()) for path in named)
    return ()
