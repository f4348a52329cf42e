"""Verdicts of the command and of the library, and how they are stored: put once, beside the results."""

import dataclasses
import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

import specdyn
from helpers.analysed import NAME, analyse
from helpers.claimed import run, tree
from specdyn.flows.cli.app import app
from specdyn.models.plugins import places
from specdyn.storage.places import Store
from specdyn.storage.probe import require_store
from specdyn.tasks.evidence.claim import claim_names, get_claim
from specdyn.tasks.plan.gathering import gather
from specdyn.tasks.plan.sweeps import make_sweep
from specdyn.tasks.verdicts.judging import Cubes, judge
from specdyn.tasks.verdicts.storing import judge_studies, keep, kept, newest

ANALYSES = ("spectrum", "effective_rank", "performance")
ASK = ("r1", "r2", "w1", "c1")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """A store with a sweep of three seeds."""
    place = require_store(str(tmp_path_factory.mktemp("judged") / "store"))
    sweep = make_sweep(
        NAME, "smoke", [1.0], [0, 1, 2], "seeds", ANALYSES, settings={"steps": 20, "checkpoint_every": 10}
    )
    analyse(sweep, place.url)
    gather(sweep, place, report=False)
    return place


def command(*typed: str, code: int = 0) -> str:
    result = CliRunner().invoke(app, list(typed), env={"COLUMNS": "300"})
    assert result.exit_code == code, result.output
    return result.stdout if "--json" in typed else result.output


def test_the_command_shows_verdicts_and_stores_each_once(store: Store) -> None:
    said = command("claims", "seeds", "--only", ",".join(ASK), "--store", store.url)
    assert "R1" in said and "not run" in said and "3 new verdicts" in said
    assert "0 new verdicts" in command("claims", "seeds", "--only", ",".join(ASK), "--store", store.url)
    shown = json.loads(command("claims", "seeds", "--only", "r1,c1", "--store", store.url, "--json"))
    (r1,) = [row for row in shown[1]["rows"] if row["claim"] == "R1"]
    ids = json.dumps(sorted(path.stem for path in Path(store.manifests(NAME)).glob("*.json")))
    assert all(run_id in ids for run_id in r1["runs"].split(", ")) and "encoder.weight" in r1["layers"]
    assert "R2 v1" in command("claims", "seeds", "--history", "--store", store.url)


def test_a_later_rule_does_not_rewrite_what_was_said(store: Store) -> None:
    claim = get_claim("r1")
    before = judge_studies(store, ["seeds"], [claim])
    keep(store, before)
    later = judge_studies(store, ["seeds"], [dataclasses.replace(claim, version=2)])
    assert keep(store, later) == 1 and keep(store, later) == 0
    every = [one for one in kept(store, "seeds") if one.claim == "r1"]
    assert [one.version for one in every] == [1, 2]
    assert every[0].sentence == before[0].sentence and every[0].made
    assert [one.version for one in newest(every)] == [2]


def test_a_damaged_verdict_is_named(store: Store) -> None:
    keep(store, judge_studies(store, ["seeds"], [get_claim("r2")]))
    place = next(path for path in Path(store.verdicts("seeds")).iterdir() if path.name.startswith("r2"))
    whole = place.read_bytes()
    place.write_text("{")
    try:
        assert str(place) in command("claims", "seeds", "--history", "--store", store.url, code=2)
    finally:
        place.write_bytes(whole)


def test_unknown_claims_and_studies_are_named(store: Store) -> None:
    assert "'zz'" in command("claims", "seeds", "--only", "zz", "--store", store.url, code=2)
    assert "it has: seeds" in command("claims", "nothing", "--store", store.url, code=2)
    assert "G1" in command("claims")


def test_the_library_judges_studies_and_open_cubes(store: Store) -> None:
    frame = specdyn.claims("seeds", store=store.url, only=["r1", "c1"])
    assert set(frame["claim"]) == {"r1", "c1"} and frame["n"].max() == 3
    again = specdyn.claims(specdyn.open(store.url, "seeds"), only=["r1"])
    assert again["sentence"].tolist() == frame.loc[frame["claim"] == "r1", "sentence"].tolist()


def test_advice_is_a_table_and_a_sentence(store: Store) -> None:
    assert "no grid of two weight decays in seeds" in command(
        "claims", "seeds", "--advice", "--store", store.url, code=2
    )
    runs = [run(seed, values={"loss": 1 + wd}, weight_decay=wd) for seed in range(3) for wd in (0.0, 1.0)]
    frame = specdyn.advice(tree(*runs))
    assert frame["says"].tolist() == ["best", "too much"] and frame["loss"].tolist() == [1, 2]


def test_holm_is_over_all_verdicts_made_together() -> None:
    runs = [
        run(seed, values={"effective_rank": 0.9 - 0.5 * wd}, weight_decay=wd) for seed in range(3) for wd in (0, 0.1, 1)
    ]
    cubes = Cubes(results={"hand": tree(*runs)}, connectivity={}, tickets={})
    alone, *_ = judge([get_claim("w1")], cubes)
    with_more = {one.claim: one for one in judge([get_claim("w1"), get_claim("p2")], cubes)}
    assert alone.p == alone.p_holm == pytest.approx(0.0046, abs=1e-4)
    assert with_more["w1"].p_holm == pytest.approx(2 * 0.0046, abs=2e-4)


def test_cases_are_distinguished_by_what_differs() -> None:
    runs = [run(seed, weight_decay=1.0, width=width) for seed in range(3) for width in (8, 16)]
    cubes = Cubes(results={"hand": tree(*runs)}, connectivity={}, tickets={})
    assert [one.case for one in judge([get_claim("a1")], cubes)] == ["hand, width=8", "hand, width=16"]


PLUGIN = """
import numpy as np
from specdyn.tasks.evidence.claim import Claim, Condition, Measured, Rule

def measure(case):
    arm, lost = case.arm()
    return {"rule": Measured(seeds=tuple(arm), values={"x": np.ones(len(arm))}, lost=lost)}

CLAIM = Claim(
    name="mine", version=1, statement="All is one.", source="here", null="none", measure=measure,
    rules={"rule": Rule(statistic="one", passes=(Condition("x", "every", ">", 0.5),), fails=(), effect=("x", "low"))},
)
"""


def test_a_claim_of_ones_own_is_a_file(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine.py").write_text(PLUGIN)
    monkeypatch.setenv(places.PATHS, str(tmp_path))
    places.forget()
    try:
        assert "mine" in claim_names()
        said = command("--plugins", str(tmp_path), "claims", "seeds", "--only", "mine", "--store", store.url)
        assert "MINE passes on seeds" in said
    finally:
        monkeypatch.delenv(places.PATHS)
        places.forget()


def test_an_edited_statistic_of_ones_own_claim_shows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    digests = []
    for text in (PLUGIN, PLUGIN, PLUGIN.replace("np.ones(len(arm))", "2 * np.ones(len(arm))")):
        (tmp_path / "mine.py").write_text(text)
        monkeypatch.setenv(places.PATHS, str(tmp_path))
        places.forget()
        try:
            digests.append(get_claim("mine").digest)
        finally:
            monkeypatch.delenv(places.PATHS)
            places.forget()
    assert digests[0] == digests[1] != digests[2]
