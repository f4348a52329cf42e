"""No module loads a pickle: what is read from a store or a file cannot run code."""

import ast
import pickle
from pathlib import Path

import pytest

from specdyn.storage.foreign.inert import InertUnpickler

ROOT = Path(__file__).resolve().parents[1]
MODULES = sorted(path for folder in ("flows", "models", "storage", "tasks") for path in (ROOT / folder).rglob("*.py"))
UNPICKLERS = {"pickle", "cloudpickle", "dill", "joblib", "shelve", "marshal"}
HARMLESS = {"pickle.UnpicklingError"}
"""Names of those modules that load nothing."""
MUST_SAY = {"torch.load": ("weights_only", True), "numpy.load": ("allow_pickle", False)}
RUN_CODE = {"eval", "exec"}
INERT = ROOT / "storage" / "foreign" / "inert.py"
"""Follows pickles of other programs and calls nothing that they name, as tests/storage/foreign/test_inert.py shows."""
OPCODES = {"REDUCE", "NEWOBJ", "NEWOBJ_EX", "OBJ", "INST", "BUILD", "EXT1", "EXT2", "EXT4"}
"""Those of a pickle that call something, or set what an object is."""


def imported(tree: ast.Module) -> dict[str, str]:
    """What each imported name stands for, with its module."""
    names: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            whole = {alias.asname: alias.name for alias in node.names if alias.asname}
            first = {alias.name.split(".")[0] for alias in node.names if not alias.asname}
            names |= whole | {name: name for name in first}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names}
    return names


def spelled(node: ast.expr, names: dict[str, str]) -> str:
    """A dotted name with what its first part stands for; empty for anything else."""
    if isinstance(node, ast.Name):
        return names.get(node.id, node.id)
    if isinstance(node, ast.Attribute) and (before := spelled(node.value, names)):
        return f"{before}.{node.attr}"
    return ""


def unsafe(source: str) -> list[str]:
    """Uses of unpicklers, loads that do not refuse pickles, and code made of text."""
    tree = ast.parse(source)
    names = imported(tree)
    found = [name for name in names.values() if name.split(".")[0] in UNPICKLERS and name not in UNPICKLERS | HARMLESS]
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            name = spelled(node, names)
            if name.split(".")[0] in UNPICKLERS and name not in HARMLESS:
                found.append(name)
        elif isinstance(node, ast.Call):
            name = spelled(node.func, names)
            keyword, value = MUST_SAY.get(name, ("", None))
            said = [given.value.value for given in node.keywords if given.arg == keyword and _constant(given.value)]
            if name in RUN_CODE or (keyword and said != [value]):
                found.append(name)
    return found


def _constant(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant)


def test_no_module_loads_pickles() -> None:
    assert len(MODULES) > 50
    found = {path: names for path in MODULES if (names := unsafe(path.read_text()))}
    follows = set(found.pop(INERT))
    assert follows == {"pickle._Unpickler", "pickle._Unpickler.dispatch", *(f"pickle.{name}" for name in OPCODES)}
    assert found == {}


def test_every_opcode_that_calls_is_followed_by_code_of_our_own() -> None:
    plain, own = pickle._Unpickler.dispatch, InertUnpickler.dispatch  # type: ignore[attr-defined]
    assert {code for code in plain if own[code] is not plain[code]} == {getattr(pickle, name)[0] for name in OPCODES}
    # Names are not looked up, and what persistent ids stand for is our own.
    assert {"find_class", "persistent_load"} <= vars(InertUnpickler).keys()


@pytest.mark.parametrize(
    "source",
    [
        "import pickle\npickle.load(file)",
        "import pickle as p\np.loads(data)",
        "from pickle import Unpickler",
        "import cloudpickle\nload = cloudpickle.loads",
        "import joblib\njoblib.load(path)",
        "import torch\ntorch.load(path)",
        "import torch.nn\ntorch.load(path)",
        "import torch\ntorch.load(path, weights_only=False)",
        "from torch import load\nload(path, weights_only=flag)",
        "import numpy as np\nnp.load(path)",
        "import numpy as np\nnp.load(path, allow_pickle=True)",
        "eval(text)",
    ],
)
def test_the_test_finds(source: str) -> None:
    assert len(unsafe(source)) == 1


def test_a_value_within_the_limit_passes() -> None:
    assert unsafe("import torch.nn\ntorch.load(path, weights_only=True)\nnetwork.eval()") == []
    assert unsafe("import pickle\ntry:\n    read()\nexcept pickle.UnpicklingError:\n    pass") == []
