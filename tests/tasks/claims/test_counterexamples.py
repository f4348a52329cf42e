"""Counter-examples: runs that generalise at a higher rank than others that memorise the same task."""

from typing import Any

import pytest
import xarray as xr
from typer.testing import CliRunner

import specdyn as sd
from helpers.claimed import LAYERS, run, splits, tree
from specdyn.flows.cli.app import app
from specdyn.tasks.verdicts.counterexamples import search

FIT, UNFIT, UNLEARNED = splits(0, 0.01), splits(0, 0.9), splits(0.3, 0.9)


def one(name: str, error: Any, rank: Any, **settings: Any) -> dict[str, Any]:
    return run(0, values={"err": error, "effective_rank": rank}, run_id=name, **settings)


def hand(*runs: dict[str, Any]) -> xr.DataTree:
    return tree(*runs)


def test_a_pair_is_named_with_what_it_differs_in_and_the_largest_comes_first() -> None:
    ranks = [[0.5 if layer < 2 else 0.9] for layer in range(len(LAYERS))]
    cube = hand(
        one("good", FIT, ranks, weight_decay=1.0),
        one("bad", UNFIT, 0.6, weight_decay=0.0),
        one("worse", UNFIT, 0.4, weight_decay=0.0, optimizer="sgd"),
    )
    found = sd.counterexamples(cube)
    mean = (2 * 0.5 + 4 * 0.9) / 6
    assert found["run_memorises"].tolist() == ["worse", "bad"]
    assert found["ratio"].tolist() == pytest.approx([mean / 0.4, mean / 0.6])
    assert found["layers"].tolist() == pytest.approx([1.0, 4 / 6])
    assert found["differ"].tolist() == ["optimizer adamw | sgd, weight_decay 1 | 0", "weight_decay 1 | 0"]
    row = found.iloc[0]
    assert (row["run_generalises"], row["val_error_generalises"], row["val_error_memorises"]) == ("good", 0.01, 0.9)
    assert found.attrs["pairs"] == 2


def test_without_any_the_frame_is_empty_and_says_among_how_many() -> None:
    found = sd.counterexamples(hand(one("good", FIT, 0.4, weight_decay=1.0), one("bad", UNFIT, 0.6)))
    assert len(found) == 0 and found.attrs["pairs"] == 1 and "ratio" in found.columns


@pytest.mark.parametrize(
    "others",
    [
        [one("other", UNFIT, 0.4, train_fraction=0.5)],
        [one("other", UNLEARNED, 0.4)],
        [one("other", splits(0, 0.3), 0.4)],
        [one("other", UNFIT, 0.4, width=64), one("good2", FIT, 0.8, width=32)],
        [],
    ],
    ids=["other data", "not learned", "neither", "other network", "alone"],
)
def test_runs_that_do_not_compare_are_no_pair(others: list[dict[str, Any]]) -> None:
    width = {"width": 32} if len(others) == 2 else {}
    with pytest.raises(ValueError, match=r"no two runs on one task to compare: of [123] runs? [12] generalise"):
        search({"hand": hand(one("good", FIT, 0.9, weight_decay=1.0, **width), *others)})


def test_lost_runs_and_collapsed_layers_do_not_count() -> None:
    good, bad = one("good", FIT, 0.9), one("bad", UNFIT, 0.4, weight_decay=0.1)
    gone = run(0, values={"err": UNFIT, "effective_rank": 0.4, "collapse": 2.0}, run_id="gone")
    assert search({"hand": hand(good, bad, gone)}).pairs == 1
    with pytest.raises(ValueError, match="0 memorise"):
        search({"hand": hand(good, {**bad, "status": "failed"}, gone)})


def test_levels_of_errors_can_be_chosen() -> None:
    cube = hand(one("good", splits(0, 0.15), 0.9), one("bad", splits(0, 0.45), 0.4, weight_decay=0.1))
    with pytest.raises(ValueError, match=r"both errors below 0\.05"):
        sd.counterexamples(cube)
    assert len(sd.counterexamples(cube, below=0.2, gap=0.4)) == 1


def test_runs_of_several_studies_are_compared() -> None:
    first, second = hand(one("good", FIT, 0.9, weight_decay=1.0)), hand(one("bad", UNFIT, 0.4))
    first.attrs["title"], second.attrs["title"] = "first", "second"
    found = sd.counterexamples(first, second)
    assert found[["study_generalises", "study_memorises"]].to_numpy().tolist() == [["first", "second"]]


def test_the_command_prints_them(monkeypatch: pytest.MonkeyPatch) -> None:
    from specdyn.flows.cli.verdicts import judged
    from specdyn.tasks.verdicts.judging import Cubes

    cube = hand(one("good", FIT, 0.9, weight_decay=1.0), one("bad", UNFIT, 0.4))
    monkeypatch.setattr(judged, "existing_store", lambda store: store)
    monkeypatch.setattr(judged, "open_cubes", lambda *_: Cubes(results={"hand": cube}, connectivity={}, tickets={}))
    said = CliRunner().invoke(app, ["claims", "hand", "--counterexamples"], env={"COLUMNS": "300"}).output
    assert "good" in said and "weight_decay 1 | 0" in said
    assert "In 1 of 1 pair of runs on one task the network that generalises has the higher effective rank." in said
