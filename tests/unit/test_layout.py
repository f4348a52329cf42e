"""The tree keeps to the import rule, lies where Python imports it from, and its modules stay short."""

import ast
import importlib.util
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MAY_IMPORT = {
    "models": {"models"},
    "storage": {"storage"},
    "tasks": {"models", "storage", "tasks"},
    "flows": {"models", "storage", "tasks", "flows"},
}
"""Package -> packages of ours that its modules may import."""
ENGINES = {"prefect", "ray"}
MODULES = sorted(path for package in MAY_IMPORT for path in (ROOT / package).rglob("*.py"))
LONGEST = 350


def imported(source: str, package: str) -> set[str]:
    """Top-level names of everything that a module of the package imports, anywhere in it."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add(package if node.level else str(node.module).split(".")[0])
    return names


def forbidden(source: str, package: str) -> set[str]:
    """What a module of the package imports against the rule."""
    names = imported(source, package)
    foreign = names & (set(MAY_IMPORT) - MAY_IMPORT[package])
    engines = {name for name in names if package != "flows" and name.split("_")[0] in ENGINES}
    return foreign | engines


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_module_imports_only_what_its_package_may(path: Path) -> None:
    assert forbidden(path.read_text(), path.relative_to(ROOT).parts[0]) == set()


@pytest.mark.parametrize(
    ("package", "source", "caught"),
    [
        ("models", "import storage.schema", {"storage"}),
        ("storage", "from models.matrices import Matrix", {"models"}),
        ("storage", "def f():\n    import tasks.training", {"tasks"}),
        ("tasks", "from flows import cli", {"flows"}),
        ("tasks", "import ray", {"ray"}),
        ("models", "import prefect_ray.task_runners as x", {"prefect_ray"}),
        ("flows", "import ray, prefect, tasks, models, storage", set()),
        ("tasks", "from . import masking\nimport raymond", set()),
    ],
)
def test_the_import_rule_catches(package: str, source: str, caught: set[str]) -> None:
    assert forbidden(source, package) == caught


@pytest.mark.parametrize("package", MAY_IMPORT)
def test_a_package_is_imported_from_this_repository(package: str) -> None:
    spec = importlib.util.find_spec(package)
    assert spec is not None
    assert spec.origin == str(ROOT / package / "__init__.py")


@pytest.mark.parametrize("folder", sorted({path.parent for path in MODULES}), ids=lambda p: str(p.relative_to(ROOT)))
def test_a_folder_of_modules_is_a_package(folder: Path) -> None:
    assert (folder / "__init__.py").is_file()


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_module_is_short_and_says_what_it_is(path: Path) -> None:
    source = path.read_text()
    assert len(source.splitlines()) < LONGEST
    assert ast.get_docstring(ast.parse(source))
