"""The Python of the documents, run as it is printed: blocks of a page one after another, answers compared."""

from collections.abc import Callable
from pathlib import Path

import pytest

from helpers.snippets import ROOT, example, follow, named, nothing

PAGES: dict[str, Callable[[], None]] = {
    "README.md": named("decay", "modular_addition-demo"),
    "docs/connectivity.md": named("basins", "modular_addition-demo-steps=1500-weight_decay=2"),
    "docs/library.md": nothing,
    "docs/queries.md": example,
    "docs/results.md": named("decay", "modular_addition-demo"),
    "docs/store-format.md": named("decay", "modular_addition-demo"),
}
"""Page -> what is there when a reader begins with it."""
ELSEWHERE = {
    "docs/extending.md": "tests/integration/test_tutorial.py",
    "docs/recording.md": "tests/integration/test_recording.py",
    "docs/tutorials": "tests/integration/test_tutorials.py",
}
"""Page, or folder of pages, -> the test that runs its Python."""


def test_every_page_with_python_is_run() -> None:
    pages = [ROOT / "README.md", ROOT / "SECURITY.md", *(ROOT / "docs").rglob("*.md")]
    with_python = {str(page.relative_to(ROOT)) for page in pages if "```python\n" in page.read_text()}
    assert {name for name in with_python if not name.startswith(tuple(ELSEWHERE))} == set(PAGES)
    assert all((ROOT / test).is_file() for test in ELSEWHERE.values())


@pytest.mark.parametrize("page", PAGES)
def test_the_python_of_a_page_runs(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    PAGES[page]()
    follow(page)
