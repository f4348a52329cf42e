"""Makes the picture of a terminal for the documents: `make docs-figures FIGURES=terminal`."""

import io
import os
import pty
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from rich.console import Console
from rich.text import Text

from helpers.pipelines import command
from helpers.programs import Program

WIDTH = 110
LARGEST = 300_000
SECONDS = 600
FONT = re.compile(r"@font-face \{.*?\}\s*", re.DOTALL)
"""Fonts that a browser would fetch."""
RATE = re.compile(r"wd=1 .* [5-9]\d\d +2500 +[\d.]+ +\d")
"""Step, steps, rate and time left of the second run, well under way."""
RUN = ("run", "modular_addition", "-w", "0,1", "-n", "grokking", "--no-report")


def in_a_terminal(folder: Path, *words: str) -> str:
    """What a command prints in a terminal, with its colours."""
    ours, its = pty.openpty()
    environment = {**os.environ, "COLUMNS": str(WIDTH), "TERM": "xterm-256color", "CI": ""}
    with subprocess.Popen(command(*words), cwd=folder, env=environment, stdout=its, stderr=its) as process:
        os.close(its)
        said = io.BytesIO()
        try:
            while part := os.read(ours, 4096):
                said.write(part)
        except OSError:  # the other end is closed: the command has ended
            pass
        process.wait()
    os.close(ours)
    return said.getvalue().decode().replace("\r\n", "\n").replace(str(folder), "~/grokking")


def main() -> None:
    """Write the picture into the folder given: a sweep under way, its status, and a typo."""
    picture = Path(sys.argv[1]).resolve() / "terminal.svg"
    terminal = Console(record=True, width=WIDTH, file=io.StringIO(), force_terminal=True, color_system="truecolor")

    def show(said: str, *words: str) -> None:
        terminal.print(Text.assemble(("$ ", "bold green"), f"specdyn {' '.join(words)}"))
        terminal.print(Text.from_ansi(said))

    with tempfile.TemporaryDirectory(prefix="specdyn-") as place:
        folder = Path(place)
        environment = {"SPECDYN_STORE": str(folder / "results")}
        os.environ |= environment
        program = Program(folder, RUN, environment, driver=True)
        try:
            until = time.monotonic() + SECONDS
            while not RATE.search(said := in_a_terminal(folder, "status", "grokking")):
                assert time.monotonic() < until, said
                time.sleep(5)
            show("", *RUN[:-1])
            show(said, "status", "grokking")
        finally:
            program.clean()
        wrong = ("run", "modular_addition", "-a", "lr=0.001,0.01")
        show(in_a_terminal(folder, *wrong), *wrong)
    svg = FONT.sub("", terminal.export_svg(title="specdyn"))
    assert len(svg) < LARGEST
    picture.write_text(svg)
    print(f"{picture}: {len(svg) / 1000:.0f} kB")


if __name__ == "__main__":
    main()
