"""Calls that only look import nothing that computes, draws or runs: neither torch nor Ray, nor what takes as long."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from helpers.analysed import NAME, analyse, sweep_called
from helpers.branched import COMMANDS, OPTIONS, carry_out, graph_in
from helpers.pipelines import ROOT
from specdyn.models.datasets.base import get_dataset
from specdyn.models.experiments.base import get_experiment
from specdyn.storage.access import objects
from specdyn.storage.checkpoints import write_checkpoint
from specdyn.storage.places import Store
from specdyn.storage.query import open_results
from specdyn.tasks.data.prepare import prepare
from specdyn.tasks.figures.summary import SUMMARY, summary_of, write_summary
from specdyn.tasks.plan.gathering import finished_results, gather
from specdyn.tasks.plan.sweeps import make_sweep

HEAVY = {"torch", "scipy", "pandas", "xarray", "zarr", "matplotlib", "ray", "prefect", "s3fs", "botocore", "sqlalchemy"}
SWEEP = sweep_called("decay", 0.0, 1.0, analyses=("spectrum", "effective_rank", "performance"))
WAITING = make_sweep(
    "image_generation", "smoke", sweep="waiting", settings={"early_checkpoints": 1, "checkpoint_every": 6}
)
"""2,700 digits, 9 of 10 to train on, 5 % of these: 121 in 8 batches of 16, so the early checkpoint lies at step 4."""
GRID = (NAME, "-p", "smoke", "-w", "0,1", "-s", "0", "--set", "steps=20", "--set", "checkpoint_every=10")
SOME = (*GRID, "--sweep", SWEEP.name, "--analyses", ",".join(SWEEP.analyses))
ASKED = """
import json, sys
opened = []
sys.addaudithook(lambda event, details: opened.append(str(details[0])) if event == "open" else None)
import specdyn
found = {"the package": [0, "", sorted(sys.modules), []]}
from typer.testing import CliRunner
from specdyn.flows.cli.app import app
for case, arguments in json.load(sys.stdin).items():
    result = CliRunner().invoke(app, arguments)
    found[case] = [result.exit_code, result.output, sorted(sys.modules), opened.copy()]
    opened.clear()
print(json.dumps(found))
"""
OF_DATA = re.compile(r"/samples/(?!.*\.pyc?$)|/data/(?!.*/manifest\.json$)").search
"""Finds the files of a data set, in the package and in a store."""
GRAPHS = f"{NAME}-smoke-steps=20"
LOOKING = {
    "an idle run": (("run", *SOME), 0, "2 runs already done: nothing to do"),
    "a plan of what is done": (("plan", *SOME), 0, "2 trainings, 2 analyses, all done; nothing to do"),
    "a status": (("status", "decay"), 0, "decay: "),
    "a status of what has begun": (("status", "waiting"), 0, "1/3"),
    "idle lines": (COMMANDS["connect"], 0, "1 pair already done: nothing to do"),
    "idle tickets": (COMMANDS["tickets"], 0, "4 tickets already done: nothing to do"),
    "a status of lines and tickets": (("status", GRAPHS), 0, "1 trunk, 2 branches, 1 pair, all done; nothing to do."),
    "the sweeps": (("list", "studies"), 0, "decay"),
    "one run": (("show", SWEEP.specs[0].run_id), 0, "complete: 3 checkpoints"),
    "a sweep that is not there": (("status", "decoy"), 2, "no study called 'decoy' in"),
    "an experiment with a typo": (("run", "modular_additon"), 2, "did you mean 'modular_addition'?"),
    "a preset with a typo": (("run", NAME, "-p", "smok"), 2, "known are data-rich, demo, mlp, paper"),
    "an analysis with a typo": (("run", NAME, "--analyses", "spectrun"), 2, "did you mean 'spectrum'?"),
    "an executor with a typo": (("run", NAME, "--executor", "rai"), 2, "known are inline, ray"),
    "a bad weight decay": (("run", NAME, "-w", "-1"), 2, "weight_decay=-1.0 is not allowed: expected a finite number"),
    "a split at no checkpoint": ((*COMMANDS["connect"][:-1], "999"), 2, "--splits 999 is not allowed"),
    "an epoch beyond": (("tickets", NAME, *OPTIONS, "--rewind-epoch", "99"), 2, "--rewind-epoch 99.0 is not allowed"),
    "a setting with a typo": (("run", NAME, "--set", "step=10"), 2, "did you mean 'steps'?"),
}
"""What looks at a store, with its exit status and some of what it says."""
ANYWHERE = {
    "experiments": ("list",),
    "presets": ("list", "presets"),
    "analyses": ("list", "analyses"),
    "help": ("--help",),
    "help of a command": ("run", "--help"),
    "version": ("--version",),
}
"""What needs no store."""


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """A store with a sweep that is done: trained, analysed, gathered, noted as drawn; and one that has begun."""
    store = Store(str(tmp_path_factory.mktemp("looking") / "store"))
    analyse(SWEEP, store.url)
    results, built = gather(SWEEP, store, report=False)
    WAITING.record(store)
    begun = WAITING.specs[0]
    weights = get_experiment(begun.experiment).net(begun).state_dict()
    write_checkpoint(store.run_of(begun), 0, weights)
    prepare(store, get_dataset("mnist", "sample"))
    for which in COMMANDS:
        carry_out(*graph_in(store.url, which), report=True)
    report = store.report(SWEEP.name)
    objects.write(f"{report}/index.html", b"a page")
    write_summary(f"{report}/{SUMMARY}", summary_of(open_results(results.url)))
    objects.write(results.note, json.dumps({"contents": results.contents}).encode())
    assert built and finished_results(SWEEP, store, report=True)
    return store


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a call ended with and said, and the heavy packages that were loaded then."""

    status: int
    said: str
    heavy: set[str]
    data: list[str]
    """Files of data sets that it opened."""


def answers(asked: Mapping[str, Sequence[str]], folder: Path) -> dict[str, Answer]:
    """The answers of one process that is asked one after another: what one call loads stays for those after it."""
    done = subprocess.run(
        [sys.executable, "-c", ASKED],
        input=json.dumps({case: list(arguments) for case, arguments in asked.items()}),
        env={**os.environ, "COLUMNS": "300", "PYTHONPATH": str(ROOT)},
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=300,
        check=True,
    )
    found = json.loads(done.stdout)
    packages = {case: {name.split(".")[0] for name in modules} for case, (_, _, modules, _) in found.items()}
    assert all("specdyn" in loaded for loaded in packages.values())
    return {
        case: Answer(status=status, said=said, heavy=packages[case] & HEAVY, data=list(filter(OF_DATA, opened)))
        for case, (status, said, _, opened) in found.items()
    }


@pytest.fixture(scope="module")
def looked(store: Store, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Answer]:
    """The answers to everything that only looks."""
    at_the_store = {case: (*arguments, "--store", store.url) for case, (arguments, _, _) in LOOKING.items()}
    return answers({**ANYWHERE, **at_the_store}, tmp_path_factory.mktemp("asked"))


@pytest.mark.parametrize("case", LOOKING)
def test_a_look_at_a_store_loads_nothing_heavy(case: str, looked: dict[str, Answer]) -> None:
    _, status, said = LOOKING[case]
    assert (looked[case].status, said in looked[case].said) == (status, True), looked[case].said
    assert (looked[case].heavy, looked[case].data) == (set(), [])


SLOW_TO_IMPORT = {"numpy", "fsspec", "yaml", "requests", "http", "specdyn.storage.access.objects"}
"""What makes a command begin later than people feel, besides HEAVY."""


@pytest.mark.parametrize(
    ("arguments", "status"),
    [
        (("--help",), 0),
        (("run", "--help"), 0),
        (("--version",), 0),
        (("run", "modular_additon"), 2),
        (("run", NAME, "--nothing"), 2),
        (("run", NAME, "-w", "0,x"), 2),
        (("runn",), 2),
        (("settings", "modular_additon"), 2),
    ],
)
def test_help_and_typos_import_next_to_nothing(arguments: tuple[str, ...], status: int, tmp_path: Path) -> None:
    program = ASKED.replace('found = {"the package"', 'found = {"before"')
    done = subprocess.run(
        [sys.executable, "-c", program],
        input=json.dumps({"asked": arguments}),
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    code, said, modules, _ = json.loads(done.stdout)["asked"]
    assert (code, "Traceback" in said) == (status, False)
    assert {name for name in modules if name in SLOW_TO_IMPORT or name.partition(".")[0] in HEAVY} == set()


@pytest.mark.parametrize("case", ["the package", *ANYWHERE])
def test_what_needs_no_store_loads_nothing_heavy(case: str, looked: dict[str, Answer]) -> None:
    assert (looked[case].status, looked[case].heavy) == (0, set())


def test_an_idle_run_shows_the_same_table_from_the_cube(
    store: Store, tmp_path: Path, looked: dict[str, Answer]
) -> None:
    """Where the summary beside the report is of another cube."""
    summary = f"{store.report(SWEEP.name)}/{SUMMARY}"
    kept = objects.read(summary)
    other = kept.replace(b'"contents": "', b'"contents": "gone').replace(b'"seed": 0', b'"seed": 7')
    assert other.count(b"gone") == 1 and other.count(b'"seed": 7') == 2
    table = looked["an idle run"].said.rpartition("ended after")[0]
    assert "val error (%)" in table
    try:
        objects.write(summary, other)
        opened = answers({"run": ("run", *SOME, "--store", store.url)}, tmp_path)["run"]
    finally:
        objects.write(summary, kept)
    assert opened.said.rpartition("ended after")[0] == table
    assert {"xarray", "zarr"} <= opened.heavy and "torch" not in opened.heavy
