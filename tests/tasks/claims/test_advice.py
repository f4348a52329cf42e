"""Advice on weight decay from a grid: the knee, the collapse, and what is too much."""

import numpy as np
import pytest
import xarray as xr

from helpers.claimed import run, tree
from specdyn import advice as advice_on
from specdyn.tasks.verdicts.advice import advice_rows, advise

LOSS = {0.0: 1.0, 0.1: 0.5, 1.0: 0.9, 10.0: 3.0}
RANK = {0.0: 0.9, 0.1: 0.8, 1.0: 0.3, 10.0: 0.9}


def grid(seeds: int = 3, noise: float = 0.001, **statuses: str) -> list[dict[str, object]]:
    return [
        run(
            seed,
            statuses.get(f"wd{wd:g}", "done"),
            {"loss": loss + noise * seed, "effective_rank": RANK[wd], "collapse": 2.0 if wd == 10 else 1.0},
            weight_decay=wd,
        )
        for seed in range(seeds)
        for wd, loss in LOSS.items()
    ]


def test_a_grid_says_what_is_best_too_much_and_collapse() -> None:
    (advice,) = advise({"hand": tree(*grid())})
    assert [one.says for one in advice.levels] == ["too little", "best", "too much", "collapse"]
    assert advice.knee == 1.0 and np.isnan(advice.levels[-1].rank.mean), "a collapsed layer has no rank"
    assert advice.sentence == (
        "hand: least validation loss at weight decay 0.1; the rank falls most at 1; 1 is too much; "
        "layers collapse at 10."
    )
    assert advice_rows(advice)[1][0] == "0.1" and advice_rows(advice)[3][2] == "-"


def test_one_seed_shows_no_difference() -> None:
    (advice,) = advise({"hand": tree(*grid(seeds=1))})
    assert [one.says for one in advice.levels] == ["", "best", "", "collapse"]
    assert "1 seed cannot tell 0, 1 from it" in advice.sentence


def test_a_run_that_is_lost_is_left_out_and_one_weight_decay_is_no_grid() -> None:
    (advice,) = advise({"hand": tree(*grid(**{"wd0.1": "failed"}))})
    assert [one.seeds for one in advice.levels] == [3, 0, 3, 3]
    assert advice.levels[2].says == "best"
    assert advise({"hand": tree(run(0, weight_decay=1.0))}) == []


@pytest.mark.parametrize(
    ("dim", "where", "says"),
    [
        ("pair", "/", "hand is a study of lines: advice takes sweeps"),
        ("ticket", "/", "hand is a study of tickets: advice takes sweeps"),
        ("pair", "/pairs", "hand has no runs, only the dimensions pair: advice takes the cube of a sweep"),
    ],
)
def test_what_is_no_sweep_is_refused(dim: str, where: str, says: str) -> None:
    table = xr.Dataset({"agreement_score": (dim, [0.5, 0.7])}, {dim: ["a", "b"]})
    cube = xr.DataTree.from_dict({"/": xr.Dataset(attrs={"title": "hand"}), where: table.assign_attrs(title="hand")})
    with pytest.raises(ValueError, match=says):
        advice_on(cube)
