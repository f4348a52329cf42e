"""`specdyn replicate`: from nothing to verdicts by the commands that people call, and again with nothing left."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from specdyn.storage.places import Store
from specdyn.tasks.evidence.claim import chosen_claims, get_claim
from specdyn.tasks.evidence.declared import STUDIES, studies_of
from specdyn.tasks.verdicts.storing import kept

ASKED_OF_S = ("g1", "g2", "g8", "r2", "p1", "p2", "a1", "v1", "w1", "w2", "t1", "t2", "c1", "c2", "c3", "c4")


def replicate(store: Path, *more: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "specdyn", "replicate", "--tier", "XS", "--store", str(store), *more]
    environment = {**os.environ, "COLUMNS": "300"}
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)


@pytest.mark.integration
@pytest.mark.scenario
def test_a_tier_goes_from_nothing_to_verdicts_and_on_where_it_was(tmp_path: Path) -> None:
    store = tmp_path / "store"
    only = ("--only", "t1,t2", "--executor", "inline")
    first = replicate(store, *only)
    assert first.returncode == 0, first.stderr[-2000:]
    assert "specdyn tickets modular_addition" in first.stderr
    page = (store / "reports" / "replication-XS" / "verdicts.md").read_text()
    assert page.startswith("# Replication, tier XS") and "| T1 |" in page
    assert {one.claim for one in kept(Store(str(store)), "xs-tickets")} == {"t1", "t2"}
    again = replicate(store, *only)
    assert again.returncode == 0 and "xs-tickets: all done" in again.stderr and "0 new verdicts" in again.stdout
    left = replicate(store, *only, "--plan")
    assert "specdyn tickets modular_addition" in left.stdout, left.stdout


def test_a_plan_writes_nothing(tmp_path: Path) -> None:
    planned = replicate(tmp_path / "store", "--only", "t1", "--plan")
    assert planned.returncode == 0 and "xs-tickets" in planned.stdout
    assert list(tmp_path.iterdir()) == []


def test_every_study_that_a_claim_needs_is_declared_and_can_be_asked_for() -> None:
    from specdyn.flows.replicate import arguments, study_of

    for tier in ("S", "M", "L", "XS"):
        for declared in studies_of(tier, chosen_claims([])):
            assert all("None" not in word for word in arguments(declared, "results"))
            if declared.command == "run" or tier in ("S", "XS"):  # the others look at data sets
                assert study_of(declared, "results").name == declared.name
    assert {name for name in ASKED_OF_S if not get_claim(name).needs["S"]} == set()
    for of in STUDIES["S"].values():
        seeds = {one.name: {seed for more in of if more.name == one.name for seed in more.given["seeds"]} for one in of}
        assert all(len(found) >= 3 for found in seeds.values())


def test_what_is_typed_has_the_study_that_is_declared(tmp_path: Path) -> None:
    """The words of each command, read as the command reads them, ask for what is declared."""
    from typer.testing import CliRunner

    from specdyn.flows.cli.app import app
    from specdyn.flows.replicate import arguments

    for declared in studies_of("XS", chosen_claims(["g1", "t1", "c1"])):
        typed = [*arguments(declared, str(tmp_path / "none")), "--plan"]
        found = CliRunner().invoke(app, typed, env={"COLUMNS": "300"})
        assert found.exit_code == 0 and declared.name in found.output, found.output
