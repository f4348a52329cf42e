"""Sources of plug-ins: what belongs to them, what their digest is of, and that it is what runs."""

import importlib
import os
import sys
from pathlib import Path

import pytest

from helpers.plugins import write
from specdyn.models.plugins.sources import IMPORTER, Code, code_of_file, code_of_installed


def inside(code: Code) -> list[str]:
    """The modules of a file by their names in its folder."""
    package = code.module.rpartition(".")[0]
    return sorted(name.removeprefix(package).removeprefix(".") for name in code.sources)


def test_what_a_file_imports_of_its_folder_belongs_to_it(tmp_path: Path) -> None:
    write(tmp_path, "main", "from .helper import one\nfrom . import other\nimport json\nfrom numpy import array\n")
    write(tmp_path, "helper", "def f():\n    from .parts.deep import two\n    return two\none = 1\n")
    write(tmp_path / "parts", "deep", "two = 2\n")
    for name in ("other", "unused", "json"):
        write(tmp_path, name, "three = 3\n")
    assert inside(code_of_file(tmp_path / "main.py")) == ["", "helper", "main", "other", "parts", "parts.deep"]


def test_the_digest_is_of_every_byte_that_belongs_to_it_and_of_no_place(tmp_path: Path) -> None:
    def digest(
        folder: str, main: str = "from .helper import one\n", helper: str = "one = 1\n", name: str = "main"
    ) -> str:
        write(tmp_path / folder, name, main)
        write(tmp_path / folder, "helper", helper)
        write(tmp_path / folder, "unused", folder)
        return code_of_file(tmp_path / folder / f"{name}.py").digest

    first = digest("a")
    assert digest("b") == digest("c", name="renamed") == first
    assert len({first, digest("d", main="# why\nfrom .helper import one\n"), digest("e", helper="one = 2\n")}) == 3


def test_what_is_imported_is_what_was_read(tmp_path: Path) -> None:
    """Also where a file changes within the time that files are stamped by, which bytecode that is kept goes by."""
    file = write(tmp_path, "main", "from .helper import number\nVALUE = number + 1\n")
    values = []
    for number in (1, 2):
        helper = write(tmp_path, "helper", f"number = {number}\n")
        os.utime(helper, (1, 1))
        code = code_of_file(file)
        helper.write_text("raise RuntimeError\n")
        IMPORTER.add(code.sources)
        module = importlib.import_module(code.module)
        values.append(module.VALUE)
        assert module.__file__ == str(file)
    assert values == [2, 3]
    assert not list(tmp_path.rglob("__pycache__"))


def test_a_file_beside_it_that_is_not_part_of_the_digest_is_not_imported(tmp_path: Path) -> None:
    write(tmp_path, "hidden", "")
    file = write(tmp_path, "main", "import importlib\nimportlib.import_module('.hidden', __package__)\n")
    code = code_of_file(file)
    IMPORTER.add(code.sources)
    with pytest.raises(ModuleNotFoundError, match="hidden"):
        importlib.import_module(code.module)


def test_an_error_shows_the_line_of_the_file(tmp_path: Path) -> None:
    file = write(tmp_path, "main", "def f():\n    raise RuntimeError('here')\n")
    code = code_of_file(file)
    IMPORTER.add(code.sources)
    with pytest.raises(RuntimeError) as caught:
        importlib.import_module(code.module).f()
    last = caught.traceback[-1]
    assert (str(last.path), last.lineno + 1, str(last.statement).strip()) == (
        str(file),
        2,
        "raise RuntimeError('here')",
    )


def test_an_installed_module_has_what_it_imports_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    write(tmp_path / "labkit", "__init__", "from labkit.version import NUMBER\n")
    write(tmp_path / "labkit", "version", "NUMBER = 1\n")
    write(tmp_path / "labkit" / "parts", "__init__", "")
    write(tmp_path / "labkit" / "parts", "nets", "import os\nimport labkit.tools.maths\n")
    write(tmp_path / "labkit" / "tools", "maths", "")
    write(tmp_path, "lonely", "import labkit\n")
    names = ["", ".parts", ".parts.nets", ".tools", ".tools.maths", ".version"]
    assert sorted(code_of_installed("labkit.parts.nets").sources) == [f"labkit{name}" for name in names]
    assert sorted(code_of_installed("lonely").sources) == ["lonely"]
    assert "labkit" not in sys.modules, "nothing was run"


@pytest.mark.parametrize("module", ["no_such_package.nets", "labkit_empty.nets", "math"])
def test_a_module_without_source_is_named(module: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    write(tmp_path / "labkit_empty", "__init__", "")
    with pytest.raises(ImportError, match=module.partition(".")[0]):
        code_of_installed(module)
