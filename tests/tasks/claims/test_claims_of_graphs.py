"""Every claim about lines and tickets, on cubes made to pass, to fail and to be undecidable."""

import itertools
from typing import Any

import numpy as np
import pytest
import xarray as xr

from helpers.claimed import judged_table

LAYERS = ("a", "b", "c")
SPLITS, SIZES, SEEDS = (0, 10, 20, 50, 100), (0.0, 0.1, 0.25, 0.5, 1.0), (0, 1, 2)
NULL, UNTRAINED, R = 0.01, 4.0, 12
FALLS = (3.0, 2.0, 1.0, 0.1, 0.01)
AGREE = (0.02, 0.03, 0.05, 0.6, 0.7)
RISES = (0.0, 0.0, 0.5, 1.0, 2.0)
LOSES = (0.95, 0.95, 0.2, 0.1, 0.02)


def lines(
    heights: Any = FALLS,
    scores: Any = AGREE,
    between: tuple[float, float] = (4.0, 0.01),
    noise: tuple[Any, Any] = (RISES, LOSES),
    rank: float = 0.1,
    seeds: tuple[int, ...] = SEEDS,
) -> xr.Dataset:
    """A cube of lines: within trunks by split, between trunks, and after noise by size; each of two pairs."""
    rows = []
    for seed, pair in itertools.product(seeds, (0, 1, 2)):
        for i, split in enumerate(SPLITS):
            rows.append(("within", seed, seed, split, 0.0, heights[i] * (1 + 0.01 * pair), scores[i] + 0.001 * pair))
        for i, size in enumerate(SIZES):
            height, score = (of[i] for of in noise)
            rows.append(("perturbed", seed, seed, 100, size, height + 0.001 * pair, score - 0.001 * pair))
    for a, b in itertools.combinations(seeds, 2):
        rows += [("across", a, b, split, 0.0, *between) for split in SPLITS]
    kind, a, b, split, size, barrier, score = (list(column) for column in zip(*rows, strict=True))
    n = len(rows)
    alphas = np.linspace(0, 1, 11)
    loss = np.array(barrier)[:, None] * (1 - np.abs(2 * alphas - 1))
    loss[np.array(kind) == "across"] *= UNTRAINED / between[0]
    spectrum = np.r_[40.0, 35, 30, 25, 22, 20, 18, 16, 14, 12, np.full(R - 10, 1.0)]
    return xr.Dataset(
        {
            "barrier_loss": (("pair", "kept", "split"), np.array(barrier)[:, None, None]),
            "loss": (("pair", "alpha", "kept", "split"), loss[:, :, None, None]),
            "agreement_score": (("pair", "layer"), np.array(score)[:, None] * np.ones(len(LAYERS))),
            "agreement_null": (("pair", "layer"), np.full((n, len(LAYERS)), 2 / np.pi / R)),
            "barrier_effective_rank": (("pair", "layer"), rank * np.array(barrier)[:, None] * np.ones(len(LAYERS))),
            "singular_value": (
                ("pair", "alpha", "layer", "rank"),
                np.broadcast_to(spectrum, (n, len(alphas), len(LAYERS), R)),
            ),
        },
        {
            "pair": [f"p{i}" for i in range(n)],
            "kept": ["all"],
            "split": ["val"],
            "alpha": alphas,
            "layer": list(LAYERS),
            **{
                name: ("pair", values)
                for name, values in (
                    *(("kind", kind), ("trunk_a", a), ("trunk_b", b), ("split_step", split), ("size", size)),
                    *(("direction", ["random"] * n), ("run_a", [f"r{i}" for i in range(n)]), ("status", ["done"] * n)),
                )
            },
        },
    )


def with_null(data: xr.Dataset, null: float = NULL) -> xr.Dataset:
    """The cube with another level of chance, as that of a large matrix."""
    return data.assign(agreement_null=data["agreement_null"] * 0 + null)


def tickets(
    loss: dict[str, float], kept: dict[str, Any], dense: dict[str, float], seeds: tuple[int, ...] = SEEDS
) -> xr.Dataset:
    """A cube of tickets of three densities, whose scores may depend on the density."""
    densities, masks = (0.05, 0.2, 0.5), ("magnitude", "random", "shuffled")
    rows = list(itertools.product(seeds, densities, masks))
    n = len(rows)

    def score(mask: str, density: float) -> float:
        of = kept[mask]
        return float(of[densities.index(density)] if isinstance(of, tuple) else of)

    ones = np.ones(len(LAYERS))
    return xr.Dataset(
        {
            "loss": (
                ("ticket", "step", "split"),
                np.array([[[1.0], [loss[mask] * (1 + 0.01 * seed)]] for seed, _, mask in rows]),
            ),
            "agreement_mask_score": (
                ("ticket", "layer"),
                np.array([score(mask, density) * NULL * ones for _, density, mask in rows]),
            ),
            "agreement_dense_score": (
                ("ticket", "step", "layer"),
                np.array([[ones, dense[mask] * NULL * ones] for _, _, mask in rows]),
            ),
            "agreement_null": (("ticket", "layer"), np.full((n, len(LAYERS)), NULL)),
        },
        {
            "ticket": [f"t{i}" for i in range(n)],
            "step": [0, 10],
            "split": ["train"],
            "layer": list(LAYERS),
            "trunk": ("ticket", [seed for seed, _, _ in rows]),
            "density": ("ticket", [density for _, density, _ in rows]),
            "mask": ("ticket", [mask for _, _, mask in rows]),
            "status": ("ticket", ["done"] * n),
        },
    )


LOSS = {"magnitude": 0.1, "random": 1.0, "shuffled": 1.0}
KEPT: dict[str, Any] = {"magnitude": (10.0, 20.0, 40.0), "random": 1.2, "shuffled": 1.5}
DENSE = {"magnitude": 20.0, "random": 1.2, "shuffled": 1.1}
CASES: dict[str, dict[str, xr.Dataset]] = {
    "c1": {
        "pass": lines(),
        "fail": lines(heights=(3.0, 3.1, 2.9, 3.0, 2.8)),
        "inconclusive": lines(heights=(3.0, 2.0, 1.0, 0.8, 0.6)),
    },
    "c2": {
        "pass": with_null(lines()),
        "fail": with_null(lines(scores=AGREE[::-1])),
        "inconclusive": with_null(lines(scores=(0.4, 0.45, 0.5, 0.6, 0.7))),
    },
    "c3": {
        "pass": with_null(lines()),
        "fail": with_null(lines(between=(4.0, 0.2))),
        "inconclusive": with_null(lines(between=(4.0, 0.03))),
    },
    "c4": {
        "pass": lines(),
        "fail": lines(noise=(RISES, (0.95, 0.95, 0.94, 0.94, 0.02))),
        "inconclusive": lines(noise=((0.0, 0.0, 0.0, 0.0, 0.0), LOSES)),
    },
    "c5": {"pass": lines(), "fail": lines(rank=-0.1), "inconclusive": lines(rank=0.0)},
    "t1": {
        "pass": tickets(LOSS, KEPT, DENSE),
        "fail": tickets({**LOSS, "magnitude": 1.0}, KEPT, DENSE),
        "inconclusive": tickets({**LOSS, "magnitude": 0.65}, KEPT, DENSE),
    },
    "t2": {
        "pass": tickets(LOSS, KEPT, DENSE),
        "fail": tickets(LOSS, {**KEPT, "magnitude": 1.3}, DENSE),
        "inconclusive": tickets(LOSS, {**KEPT, "shuffled": 9.0}, DENSE),
    },
    "t3": {
        "pass": tickets(LOSS, KEPT, DENSE),
        "fail": tickets(LOSS, KEPT, {**DENSE, "magnitude": 1.5}),
        "inconclusive": tickets(LOSS, KEPT, {**DENSE, "random": 3.0}),
    },
    "t4": {
        "pass": tickets(LOSS, KEPT, DENSE),
        "fail": tickets(LOSS, {**KEPT, "magnitude": (40.0, 20.0, 10.0)}, DENSE),
        "inconclusive": tickets(LOSS, {**KEPT, "magnitude": (10.0, 40.0, 20.0)}, DENSE),
    },
}


@pytest.mark.parametrize("state", ["pass", "fail", "inconclusive"])
@pytest.mark.parametrize("claim", CASES)
def test_a_claim_is_decided_by_its_rule(claim: str, state: str) -> None:
    verdict = judged_table(claim, CASES[claim][state])
    assert verdict.state == state, verdict.sentence
    assert verdict.n == 3 and verdict.runs


@pytest.mark.parametrize("claim", CASES)
def test_a_line_or_ticket_that_is_lost_keeps_a_claim_from_passing(claim: str) -> None:
    data = CASES[claim]["pass"].copy()
    (dim,) = data["status"].dims
    kinds = data["kind"].values if "kind" in data else np.full(data.sizes[dim], "")
    wanted = {"c4": "perturbed"}.get(claim, "within" if "kind" in data else "")
    data["status"] = (dim, np.where(np.arange(len(kinds)) == int(np.argmax(kinds == wanted)), "failed", "done"))
    verdict = judged_table(claim, data)
    assert verdict.state == "inconclusive" and any("failed" in one for one in verdict.lost), verdict.sentence


@pytest.mark.parametrize("claim", CASES)
def test_two_trunks_decide_nothing(claim: str) -> None:
    data = CASES[claim]["pass"]
    (dim,) = data["status"].dims
    names = ("trunk_a", "trunk_b") if "trunk_a" in data else ("trunk",)
    few = data.isel({dim: np.all([data[name].values < 2 for name in names], axis=0)})
    assert judged_table(claim, few).state == "inconclusive"


@pytest.mark.parametrize("claim", CASES)
def test_nothing_finished_is_not_run(claim: str) -> None:
    data = CASES[claim]["pass"]
    (dim,) = data["status"].dims
    none = data.assign_coords(status=(dim, ["planned"] * data.sizes[dim]))
    assert judged_table(claim, none).state == "not run"


def test_noise_alone_takes_agreement_from_small_directions_first() -> None:
    from specdyn.tasks.claims.c4 import instant_loss

    data = lines()
    losses = [instant_loss(data, size) for size in (0.0, 0.05, 0.5, 5.0)]
    assert losses[0] == 0 and losses == sorted(losses)
    assert losses[-1] > 0.9, "nothing is left of what drowns in noise"
