"""The tree keeps to the import rule, everything is imported as part of specdyn, and modules stay short."""

import ast
import importlib.util
from pathlib import Path

import pytest

from helpers import order

ROOT = Path(__file__).parents[1]
MAY_IMPORT = {
    "models": {"models"},
    "storage": {"storage"},
    "tasks": {"models", "storage", "tasks"},
    "flows": {"models", "storage", "tasks", "flows"},
}
"""Package -> packages of specdyn that its modules may import."""
ENGINES = {"prefect", "ray"}
MODULES = sorted(path for package in MAY_IMPORT for path in (ROOT / package).rglob("*.py"))
LONGEST = 350
FLOORS = {
    "flows": [
        {"cli"},
        {"service"},
        {"sweep", "connect", "tickets", "analyse"},
        {"studies"},
        {"engine"},
        {"parameters"},
        {"fields"},
        {"resources"},
        {"shown"},
    ],
    "models": [{"experiments"}, {"nets", "families"}, {"datasets"}, {"plugins"}, {"spec"}],
    "storage": [{"probe", "care"}, {"foreign"}, {"access"}],
    "tasks": [
        {"care", "recording"},
        {"plan"},
        {"connect"},
        {"figures", "analyses", "foreign"},
        {"verdicts"},
        {"claims"},
        {"evidence"},
        {"training"},
        {"spectra"},
        {"evaluation"},
        {"data"},
        {"timing"},
    ],
}
"""Package -> its folders and modules, from the top down: each imports itself and what lies below."""
CROWDED = 18
"""Modules in one folder, at most; those that are found by their file name have no limit."""
FOUND_BY_NAME = {"analyses", "claims", "experiments", "datasets", "families"}


def imported(source: str) -> set[str]:
    """Everything that a module imports by absolute name, anywhere in it."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def bare(source: str) -> set[str]:
    """Packages that a module imports by themselves, which only works inside this repository."""
    return {name.split(".")[0] for name in imported(source)} & set(MAY_IMPORT)


def forbidden(source: str, package: str) -> set[str]:
    """What a module of the package imports against the rule."""
    names = imported(source)
    ours = {name.split(".")[1] for name in names if name.startswith("specdyn.")}
    tops = {name.split(".")[0] for name in names}
    engines = {name for name in tops if package != "flows" and name.split("_")[0] in ENGINES}
    return (ours & (set(MAY_IMPORT) - MAY_IMPORT[package])) | engines | bare(source)


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_module_imports_only_what_its_package_may(path: Path) -> None:
    assert forbidden(path.read_text(), path.relative_to(ROOT).parts[0]) == set()


@pytest.mark.parametrize(
    ("package", "source", "caught"),
    [
        ("models", "import specdyn.storage.schema", {"storage"}),
        ("storage", "from specdyn.models.nets.matrices import Matrix", {"models"}),
        ("storage", "def f():\n    import specdyn.tasks.training.training", {"tasks"}),
        ("tasks", "from specdyn.flows import cli", {"flows"}),
        ("tasks", "from specdyn import flows", {"flows"}),
        ("tasks", "from storage import cube", {"storage"}),
        ("tasks", "import ray", {"ray"}),
        ("models", "import prefect_ray.task_runners as x", {"prefect_ray"}),
        ("flows", "import ray, prefect\nfrom specdyn import tasks, models, storage", set()),
        ("tasks", "from . import masking\nimport raymond", set()),
    ],
)
def test_the_import_rule_catches(package: str, source: str, caught: set[str]) -> None:
    assert forbidden(source, package) == caught


def floor_of(package: str, name: str) -> int | None:
    return next((height for height, names in enumerate(FLOORS[package]) if name in names), None)


def upwards(source: str, package: str, name: str) -> set[str]:
    """What a module in that folder of the package imports from a floor above its own, or from beside it."""
    own = floor_of(package, name)
    ours = {each.split(".")[2] for each in imported(source) if each.startswith(f"specdyn.{package}.")}
    floors = {each: floor for each in ours - {name} if (floor := floor_of(package, each)) is not None}
    return {each for each, floor in floors.items() if own is not None and floor <= own}


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_folders_of_a_package_import_downwards(path: Path) -> None:
    package, *inside = path.relative_to(ROOT).with_suffix("").parts
    assert upwards(path.read_text(), package, inside[0]) == set()


def test_the_rule_of_floors_catches() -> None:
    assert upwards("from specdyn.tasks.plan.sweeps import Sweep", "tasks", "training") == {"plan"}
    assert upwards("import specdyn.flows.sweep", "flows", "connect") == {"sweep"}
    assert upwards("from specdyn.tasks.data import prepare", "tasks", "training") == set()


def test_files_of_tests_that_begin_first_are_there() -> None:
    assert [path for path in order.PLACES if not path.is_file()] == []
    assert len(order.PLACES) == len(order.LONGEST)


def test_no_folder_is_crowded() -> None:
    folders = {path.parent for path in MODULES if path.parent.name not in FOUND_BY_NAME}
    assert {folder: number for folder in folders if (number := len(list(folder.glob("*.py"))) - 1) > CROWDED} == {}


@pytest.mark.parametrize("folder", ["tests", "deploy", "specdyn"])
def test_nothing_is_imported_around_specdyn(folder: str) -> None:
    assert {path: found for path in (ROOT / folder).rglob("*.py") if (found := bare(path.read_text()))} == {}


@pytest.mark.parametrize("package", MAY_IMPORT)
def test_a_package_is_imported_from_this_repository(package: str) -> None:
    spec = importlib.util.find_spec(f"specdyn.{package}")
    assert spec is not None
    assert spec.origin is not None
    assert Path(spec.origin).resolve() == ROOT / package / "__init__.py"


@pytest.mark.parametrize("folder", sorted({path.parent for path in MODULES}), ids=lambda p: str(p.relative_to(ROOT)))
def test_a_folder_of_modules_is_a_package(folder: Path) -> None:
    assert (folder / "__init__.py").is_file()


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_module_is_short_and_says_what_it_is(path: Path) -> None:
    source = path.read_text()
    assert len(source.splitlines()) < LONGEST
    assert ast.get_docstring(ast.parse(source))
