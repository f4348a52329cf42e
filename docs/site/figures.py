"""Makes the pictures of the documents: `python -m docs.site.figures [NAME ...]`, or `make docs-figures`.

Each group of pictures lists the commands that make them. They run in one store, `build/figures` unless
SPECDYN_FIGURES names another, so that a second call makes only what is missing. `docs/site/made.json` records
when each picture was made, on which processor and with which versions; the site shows it.
"""

import datetime
import json
import os
import re
import shlex
import subprocess
import sys
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import torch
from PIL import Image

from specdyn.tasks.evaluation.environment import processor

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
MADE = DOCS / "site" / "made.json"
COLOURS = 128
PACKAGES = ("specdyn", "torch", "numpy", "matplotlib")
SAMPLES = ("image_classification", "image_generation", "speech_recognition", "language_modelling")


@dataclass(frozen=True, slots=True, kw_only=True)
class Pictures:
    """A group of pictures that are made together."""

    commands: tuple[str, ...]
    """Commands of `specdyn` or `python -m`, with {store} for the store."""
    files: dict[str, str]
    """Picture in docs/ -> its place in the store; empty if the command writes into docs/ itself."""
    about: str


GROUPS = {
    "rank": Pictures(
        commands=("specdyn run modular_addition", "specdyn report modular_addition-demo --figures"),
        files={"effective_rank.png": "reports/modular_addition-demo/effective_rank.png"},
        about="the demo",
    ),
    "paper": Pictures(
        commands=(
            "specdyn run modular_addition --preset paper -w 1 -s 0 --cpus 2",
            "specdyn report modular_addition-paper --figures",
        ),
        files={
            "paper_loss.png": "reports/modular_addition-paper/performance.png",
            "paper_rank.png": "reports/modular_addition-paper/effective_rank.png",
        },
        about="the paper's run at weight decay 1: 40,000 steps, 401 checkpoints, 25 to 45 minutes on 2 cores",
    ),
    "report": Pictures(
        commands=(
            "specdyn run modular_addition",
            "python -m helpers.screenshots docs {store}/reports/modular_addition-demo/index.html",
        ),
        files={"report.png": ""},
        about="the report of the demo, in Chromium",
    ),
    "explore": Pictures(
        commands=(
            "specdyn run modular_addition",
            "python -m helpers.screenshots docs {store} modular_addition-demo",
        ),
        files={"explore.png": ""},
        about="the explore app on the demo, in Chromium; needs specdyn[explore]",
    ),
    "five": Pictures(
        commands=(
            "specdyn run modular_addition",
            *(f"specdyn run {name}" for name in SAMPLES),
            f"specdyn compare modular_addition-demo {' '.join(f'{name}-sample' for name in SAMPLES)}",
        ),
        files={"five_experiments.png": "reports/comparison.png"},
        about="the sample sweep of every experiment",
    ),
    "connectivity": Pictures(
        commands=(
            "specdyn connect modular_addition --set weight_decay=2 --set steps=1500 --splits 0,50,200,500,1000"
            " --sizes 0,0.1,0.25,0.5,1,2.5 --name connectivity",
            "specdyn report connectivity --figures",
        ),
        files={
            "connectivity.png": "reports/connectivity/connectivity.png",
            "perturbation.png": "reports/connectivity/perturbation.png",
        },
        about="102 trainings, 11 minutes on 2 cores",
    ),
    "connectivity-images": Pictures(
        commands=(
            "specdyn connect image_classification --set train_fraction=0.5 --set steps=128 --set checkpoint_every=8"
            " --splits 0,8,16,32,64 --name connectivity-images",
            "specdyn report connectivity-images --figures",
        ),
        files={"connectivity_images.png": "reports/connectivity-images/connectivity.png"},
        about="48 trainings",
    ),
    "tickets": Pictures(
        commands=(
            "specdyn tickets modular_addition --set weight_decay=2 --set steps=1500 --rewind 50 -s 0 --name tickets",
            "specdyn report tickets --figures",
        ),
        files={"tickets.png": "reports/tickets/tickets.png"},
        about="26 trainings",
    ),
    "tickets-images": Pictures(
        commands=(
            "specdyn tickets image_classification --set train_fraction=0.5 --set steps=128 --set checkpoint_every=8"
            " --rewind 8 -s 0 --name tickets-images",
            "specdyn report tickets-images --figures",
        ),
        files={"tickets_images.png": "reports/tickets-images/tickets.png"},
        about="26 trainings",
    ),
    "series": Pictures(
        commands=(
            "python -m tests.benchmarks.hf_series {store}/hugging-face",
            "specdyn report trainer --store {store}/hugging-face/store --figures",
            "specdyn compare trainer --store {store}/hugging-face/store --out {store}/hugging-face/rank.png",
        ),
        files={
            "series_rank.png": "hugging-face/rank.png",
            "series_loss.png": "hugging-face/store/reports/trainer/performance.png",
        },
        about="eight runs of the Hugging Face Trainer",
    ),
    "recording": Pictures(
        commands=(
            "python -m docs.site.figures record",
            "specdyn analyse {store}/recorded/my-run --name my-run",
            "specdyn report my-run --figures",
        ),
        files={"recording.png": "reports/my-run/effective_rank.png"},
        about="the first example of docs/recording.md",
    ),
    "terminal": Pictures(
        commands=("python -m helpers.terminal_picture docs",),
        files={"terminal.svg": ""},
        about="a sweep under way, its status and a typo",
    ),
    "ui": Pictures(
        commands=("python -m helpers.screenshots docs",),
        files={"ui_form.png": "", "ui_run.png": "", "ui_artifacts.png": "", "ui_schedule.png": ""},
        about="a sweep in Prefect's UI, in Chromium",
    ),
}


def make(name: str, store: Path) -> None:
    """Run the commands of a group, copy its pictures, and record processor and versions."""
    group = GROUPS[name]
    for command in group.commands:
        words = shlex.split(command.format(store=store))
        program = [sys.executable, "-m", "specdyn"] if words[0] == "specdyn" else [sys.executable]
        environment = os.environ | {"SPECDYN_STORE": str(store), "PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}"}
        subprocess.run([*program, *words[1:]], cwd=ROOT, env=environment, check=True)
    for picture, place in group.files.items():
        if place:
            image = Image.open(store / place).convert("RGB")
            image.quantize(COLOURS, dither=Image.Dither.NONE).save(DOCS / picture, optimize=True)
    made = json.loads(MADE.read_text()) if MADE.exists() else {}
    made[name] = {
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "processor": processor(torch.device("cpu")),
        "versions": {package: version(package) for package in PACKAGES},
    }
    MADE.write_text(json.dumps(made, indent=1, sort_keys=True) + "\n")


def record(store: str) -> None:
    """Run the first example of docs/recording.md, with its recording in the store."""
    page = (DOCS / "recording.md").read_text()
    found = re.search(r"```python\n(.*?)```", page, re.DOTALL)
    assert found is not None
    exec(compile(found.group(1).replace('"results"', repr(store)), "docs/recording.md", "exec"), {})


def table() -> list[tuple[str, ...]]:
    """Rows of pictures, commands, and where each was made."""
    made = json.loads(MADE.read_text()) if MADE.exists() else {}
    rows = []
    for name, group in GROUPS.items():
        what = made.get(name)
        on = f"{what['date']}, {what['processor']}, torch {what['versions']['torch']}" if what else "before this record"
        commands = "; ".join(f"`{command}`" for command in group.commands)
        rows.append((", ".join(group.files), f"`make docs-figures FIGURES={name}`", commands, on))
    return rows


if __name__ == "__main__":
    place = Path(os.environ.get("SPECDYN_FIGURES", ROOT / "build" / "figures"))
    if sys.argv[1:] == ["record"]:
        record(os.environ["SPECDYN_STORE"])
    else:
        for one in sys.argv[1:] or GROUPS:
            make(one, place)
