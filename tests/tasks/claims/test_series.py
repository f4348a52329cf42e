"""Series of another program are judged as runs are, by the seeds of their labels."""

from torch import nn

import specdyn as sd


def verdicts_of(labels: dict[str, dict[str, int]]) -> dict[str, list[str]]:
    models = {name: nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 4)) for name in "abc"}
    tree = sd.analyse(models, ["spectrum", "effective_rank"], labels=labels, progress=False)
    found: dict[str, list[str]] = {}
    table = sd.claims(tree)
    for claim, verdict in zip(table["claim"], table["state"], strict=True):
        found.setdefault(str(claim).lower(), []).append(str(verdict))
    return found


def test_series_that_differ_in_their_seed_are_one_case() -> None:
    found = verdicts_of({name: {"seed": seed} for seed, name in enumerate("abc")})
    assert len(found["r1"]) == len(found["w5"]) == 1
    assert found["w5"] == found["w1"] == ["not run"]


def test_series_without_a_seed_are_never_seeds_of_one_another() -> None:
    assert len(verdicts_of({})["r1"]) == 3
