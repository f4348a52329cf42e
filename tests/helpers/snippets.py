"""Follows pages of the documents like a reader: runs their Python and `specdyn` command lines in one process."""

import shlex
import shutil
import zipfile
from collections.abc import Callable
from doctest import ELLIPSIS, NORMALIZE_WHITESPACE
from pathlib import Path

from sybil import Example, Sybil
from sybil.parsers.markdown import CodeBlockParser, PythonCodeBlockParser, SkipParser
from typer.testing import CliRunner

from specdyn.flows.cli.app import app

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "docs" / "example" / "results.zip"
ENGINES = ("run", "connect", "tickets")
"""Commands that start Ray; here they do the same work in this process, without a report, to save time."""


def run_lines(example: Example) -> None:
    """Run the `specdyn` lines of a block; AssertionError with the output of a failed command."""
    for line in example.parsed.replace("\\\n", " ").splitlines():
        words = shlex.split(line, comments=True)
        if not words:
            continue
        assert words[0] == "specdyn", line
        here = ["--executor", "inline", "--no-report"] if words[1] in ENGINES else []
        result = CliRunner().invoke(app, [*words[1:], *here])
        assert result.exit_code == 0, f"{line}\n{result.output}"


READER = Sybil(
    parsers=[
        PythonCodeBlockParser(doctest_optionflags=ELLIPSIS | NORMALIZE_WHITESPACE),
        CodeBlockParser(language="sh", evaluator=run_lines),
        SkipParser(),
    ]
)
"""Blocks marked `python` and `sh` are run; blocks of command lines without a mark are only parsed (test_documents)."""


def follow(page: str) -> None:
    """Run a page, block by block, in the working folder."""
    examples = list(READER.parse(ROOT / page).examples())
    assert examples
    for one in examples:
        one.evaluate()


def nothing() -> None:
    """The page starts in an empty folder."""


def example() -> None:
    """The page starts with the example store at `results`."""
    with zipfile.ZipFile(EXAMPLE) as archive:
        archive.extractall("results")


def named(study: str, name: str) -> Callable[[], None]:
    """The page starts with a study of the examples under the page's name for it."""

    def prepare() -> None:
        example()
        shutil.move(f"results/studies/{study}", f"results/studies/{name}")

    return prepare
