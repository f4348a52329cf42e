"""The documents: short where they should be, links that lead somewhere, command lines that the command understands."""

import contextlib
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
import typer
from typer.exceptions import TyperException

from specdyn.flows.cli.app import app
from specdyn.flows.cli.command import read
from specdyn.flows.parameters import SweepParameters
from specdyn.flows.studies import sweep_from
from specdyn.models.experiments.base import experiment_names

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "SECURITY.md", *sorted((ROOT / "docs").rglob("*.md"))]
FIGURES = sorted(path for path in (ROOT / "docs").rglob("*") if path.suffix in (".png", ".svg"))
COMMAND = typer.main.get_command(app)
FENCE = re.compile(r"^```(\w*)[^\n]*\n(.*?)^```", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)\s]+)\)")
ELSEWHERE = ("http://", "https://", "mailto:")


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def without_code(text: str) -> str:
    return re.sub(r"`[^`\n]+`", "", FENCE.sub("", text))


def anchors(text: str) -> set[str]:
    """What GitHub calls the headings of a page."""
    headings = re.findall(r"^#+ (.+)$", FENCE.sub("", text), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def fenced_lines(text: str) -> Iterator[str]:
    """Lines of the blocks that a shell would be given; a line that ends in a backslash goes on in the next."""
    for language, body in FENCE.findall(text):
        if language in ("", "bash", "sh", "console"):
            yield from body.replace("\\\n", " ").splitlines()


def commands_in(text: str) -> Iterator[tuple[list[str], bool]]:
    """The words after every `specdyn`, and whether they are a whole command line, as in a block of code."""
    for line in fenced_lines(text):
        words = shlex.split(line, comments=True) if "specdyn " in line else []
        for i, word in enumerate(words):
            follows = words[i + 1] if i + 1 < len(words) else ""
            if word == "specdyn" and (i == 0 or follows in COMMAND.commands):  # type: ignore[attr-defined]
                yield words[i + 1 :], True
    for span in re.findall(r"`(specdyn [^`\n]+)`", FENCE.sub("", text)):
        yield shlex.split(span)[1:], False


def parse(words: list[str], whole: bool) -> tuple[str, dict[str, Any]]:
    """The command's name and its parameters as the command line reads them; raises as it would, runs nothing."""
    command, name, rest = COMMAND, "specdyn", [word for word in words if whole or word != "..."]
    context = None
    while rest and hasattr(command, "commands"):
        context = command.make_context(name, list(rest), parent=context)
        name, found, rest = command.resolve_command(context, [*context._protected_args, *context.args])
        assert found is not None
        command = found
    if not rest and not whole:
        return name, {}
    required = [p for p in command.params if p.required and p.param_type_name == "argument"]
    given = rest if whole or len(rest) >= len(required) else [*rest, *(p.name or "" for p in required[len(rest) :])]
    return name, dict(command.make_context(name, given, parent=context).params)


def test_the_readme_is_short() -> None:
    text = (ROOT / "README.md").read_text()
    assert len(text.encode()) <= 10_240
    assert [line for line in text.splitlines() if len(line) > 120] == []


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_and_images_lead_somewhere(page: Path) -> None:
    text = page.read_text()
    for link in LINK.findall(without_code(text)):
        if link.startswith(ELSEWHERE):
            continue
        path, _, anchor = unquote(link).partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), f"{link}: no such file"
        assert ROOT in target.parents, f"{link}: outside the repository"
        assert not anchor or anchor in anchors(target.read_text()), f"{link}: no such heading"


@pytest.mark.parametrize("page", [*PAGES[2:], *FIGURES], ids=name_of)
def test_every_page_and_picture_is_linked(page: Path) -> None:
    linked = {
        (source.parent / unquote(link).partition("#")[0]).resolve()
        for source in PAGES
        for link in LINK.findall(source.read_text())
        if source != page
    }
    assert page in linked


def every_command(command: Any = COMMAND, name: str = "") -> Iterator[str]:
    """Every command that can be called, by its words."""
    if not hasattr(command, "commands"):
        yield name
        return
    for word, inner in command.commands.items():
        yield from every_command(inner, f"{name} {word}".strip())


def test_the_page_of_commands_has_all_of_them() -> None:
    shown = re.findall(r"^\| `specdyn ([^`]+)`", (ROOT / "docs/commands.md").read_text(), re.MULTILINE)
    missing = {
        name for name in every_command() if not any(one.split()[: len(name.split())] == name.split() for one in shown)
    }
    assert missing == set()


@pytest.mark.parametrize("page", [page for page in PAGES if "specdyn " in page.read_text()], ids=name_of)
def test_command_lines_are_understood(page: Path) -> None:
    for words, whole in commands_in(page.read_text()):
        with contextlib.suppress(typer.Exit):  # --help, which is understood
            try:
                parse(words, whole)
            except TyperException as error:
                pytest.fail(f"specdyn {shlex.join(words)}: {error}")


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_grids_of_command_lines_can_be_run(page: Path) -> None:
    for words, whole in commands_in(page.read_text()):
        if not whole or words[0] not in ("run", "plan"):
            continue
        given = parse(words, whole)[1]
        if given["experiment"] in experiment_names():
            assert sweep_from(read(SweepParameters, given)).specs


@pytest.mark.parametrize(
    ("line", "refused"),
    [
        ("run modular_addition --wieght-decays 0", "--wieght-decays"),
        ("rnu modular_addition", "rnu"),
        ("run", "experiment"),
        ("plan modular_addition -p", "-p"),
        ("connect modular_addition --points many", "valid integer"),
        ("storage chekc results", "chekc"),
        ("status name another", "another"),
    ],
)
def test_a_command_line_that_is_not_understood_is_found(line: str, refused: str) -> None:
    with pytest.raises(TyperException) as caught:
        parse(shlex.split(line), True)
    assert refused in str(caught.value)


def test_command_lines_are_found_in_blocks_and_in_sentences() -> None:
    text = "Call `specdyn list` or\n```\nspecdyn run a \\\n  -w 0   # much\nsbatch specdyn.sbatch specdyn plan b\n```\n"
    text += "```\nprefect work-pool create specdyn --type process\n```\n```python\nspecdyn = 1\n```\n"
    assert list(commands_in(text)) == [(["run", "a", "-w", "0"], True), (["plan", "b"], True), (["list"], False)]
