"""The shipped samples are small, and each has its line in the licences."""

import re

from specdyn.models.datasets.samples import FOLDER

FILES = sorted(path for path in FOLDER.rglob("*") if path.is_file() and path.suffix not in {".py", ".pyc"})


def test_every_file_has_a_licence_and_every_licence_its_file() -> None:
    table = [line for line in (FOLDER / "LICENCES.md").read_text().splitlines() if line.startswith("| `")]
    assert all(line.count("|") == 5 and all(cell.strip() for cell in line.split("|")[1:-1]) for line in table)
    patterns = [pattern for line in table for pattern in re.findall(r"`([^`]+)`", line.split("|")[1])]
    named = [path for pattern in patterns for path in FOLDER.glob(pattern)]
    assert sorted(named) == [path for path in FILES if path.name != "LICENCES.md"]
    assert [pattern for pattern in patterns if not list(FOLDER.glob(pattern))] == []


def test_the_samples_are_small() -> None:
    sizes = {path.name: path.stat().st_size for path in FILES}
    assert max(sizes.values()) < 500_000
    assert sum(sizes.values()) < 2_000_000
