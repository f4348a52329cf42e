"""Folders in which things are declared, a module each."""

import pkgutil
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from specdyn.models.modules import module_names


def test_a_folder_is_listed_once_however_often_it_is_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("second.py", "base.py", "first.py", "notes.txt"):
        (tmp_path / name).touch()
    (tmp_path / "parts").mkdir()
    (tmp_path / "parts" / "__init__.py").touch()
    listings: list[Any] = []
    usual = pkgutil.iter_modules

    def counted(path: Iterable[str]) -> Any:
        listings.append(path)
        return usual(path)

    monkeypatch.setattr(pkgutil, "iter_modules", counted)
    package = ModuleType("somewhere")
    package.__path__ = [str(tmp_path)]
    assert [module_names(package) for _ in range(3)] == [["first", "second"]] * 3
    assert len(listings) == 1


def test_a_folder_that_is_added_to_a_package_is_found(tmp_path: Path) -> None:
    package = ModuleType("somewhere")
    package.__path__ = [str(tmp_path / "a")]
    assert module_names(package) == []
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "third.py").touch()
    package.__path__ = [str(tmp_path / "a"), str(tmp_path / "b")]
    names = module_names(package)
    assert names == ["third"]
    names.clear()
    assert module_names(package) == ["third"]
