"""The addition table and its split (METHOD 1.1)."""

import random

import pytest
from torch import Tensor

from specdyn.models.datasets.decoders.modular_addition import ModularAddition, rows


def pairs(table: Tensor) -> list[tuple[int, int]]:
    return [(int(i), int(j)) for i, j, *_ in table]


@pytest.mark.parametrize(
    ("prime", "fraction", "train", "val"),
    [(113, 0.3, 3830, 8939), (113, 0.9, 11492, 1277), (97, 0.7, 6586, 2823)],
)
def test_split_sizes_are_the_published_ones(prime: int, fraction: float, train: int, val: int) -> None:
    split = rows(ModularAddition(prime=prime, train_fraction=fraction), seed=0)
    assert tuple(map(len, split)) == (train, val)


def test_the_order_is_the_published_one() -> None:
    train, val = rows(ModularAddition(), seed=0)
    ids = [113 * i + j for i, j in pairs(train) + pairs(val)]
    assert ids[:3] == [2068, 1213, 6243]
    everything = list(range(113**2))
    random.seed(0)
    random.shuffle(everything)
    assert ids == everything


@pytest.mark.parametrize("mirrored_together", [False, True])
@pytest.mark.parametrize("seed", [0, 1])
def test_every_pair_occurs_once_with_its_sum(mirrored_together: bool, seed: int) -> None:
    data = ModularAddition(prime=13, train_fraction=0.75, mirrored_together=mirrored_together)
    train, val = rows(data, seed)
    assert sorted(pairs(train) + pairs(val)) == [(i, j) for i in range(13) for j in range(13)]
    for i, j, equals, answer in [*train.tolist(), *val.tolist()]:
        assert (equals, answer) == (13, (i + j) % 13)


def test_mirrored_pairs_lie_on_the_same_side_when_asked_for() -> None:
    train, val = rows(ModularAddition(prime=13, train_fraction=0.75, mirrored_together=True), seed=0)
    for side in (pairs(train), pairs(val)):
        assert {(j, i) for i, j in side} == set(side)
    # int(0.75 * 13 * 14 / 2) = 68 unordered pairs to train on
    assert len({frozenset(pair) for pair in pairs(train)}) == 68


def test_mirrored_pairs_are_parted_otherwise() -> None:
    train, _ = rows(ModularAddition(prime=13, train_fraction=0.75), seed=0)
    assert {(j, i) for i, j in pairs(train)} != set(pairs(train))


@pytest.mark.parametrize("mirrored_together", [False, True])
def test_the_split_depends_on_the_seed(mirrored_together: bool) -> None:
    data = ModularAddition(prime=13, mirrored_together=mirrored_together)
    (first, _), (second, _) = rows(data, 0), rows(data, 1)
    assert set(pairs(first)) != set(pairs(second))


@pytest.mark.parametrize("prime", [-7, 0, 1, 4, 9, 91, 121, 12769])
def test_a_modulus_that_is_not_prime_is_refused(prime: int) -> None:
    with pytest.raises(ValueError, match=rf"^prime={prime} is not allowed: expected a prime number$"):
        ModularAddition(prime=prime)


@pytest.mark.parametrize("prime", [2, 3, 5, 7, 11, 13, 97, 113])
def test_a_prime_modulus_is_accepted(prime: int) -> None:
    assert ModularAddition(prime=prime, train_fraction=0.5).prime == prime


@pytest.mark.parametrize("fraction", [0.0, 1.0, -0.1, 1.5, float("nan"), float("inf")])
def test_a_fraction_that_leaves_a_side_empty_is_refused(fraction: float) -> None:
    message = rf"^train_fraction={fraction} is not allowed: expected a number between 0 and 1$"
    with pytest.raises(ValueError, match=message):
        ModularAddition(train_fraction=fraction)


@pytest.mark.parametrize(("mirrored_together", "least"), [(False, 0.25), (True, 1 / 3)])
def test_a_fraction_of_less_than_one_pair_is_refused(mirrored_together: bool, least: float) -> None:
    def data(fraction: float) -> ModularAddition:
        return ModularAddition(prime=2, train_fraction=fraction, mirrored_together=mirrored_together)

    assert len(rows(data(least + 1e-9), seed=0)[0]) >= 1
    with pytest.raises(ValueError, match=r"^train_fraction=.* is not allowed: expected 0\.\d+ or more, for one of"):
        data(least - 1e-9)
