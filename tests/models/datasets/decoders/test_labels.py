"""Splits, label permutation and label noise give the published indices (DATA 1.1, METHOD 0.1, 1.2)."""

import hashlib
import struct

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import TensorDataset
from torch.utils.data import random_split as torch_random_split

from specdyn.models.datasets.decoders.labels import (
    index_hash,
    noisy_labels,
    permutation,
    permuted_labels,
    random_split,
    require_labels,
    train_subset,
)

LABELS = np.arange(50_000) % 10


@pytest.mark.parametrize(
    ("n", "seed", "fingerprint"),
    [(60_000, 42, "7cd1a1e010482b25"), (50_000, 42, "55ecb6cd4e1eb482"), (50_000, 12345, "d1c795582530f776")],
)
def test_permutations_have_the_published_fingerprints(n: int, seed: int, fingerprint: str) -> None:
    assert index_hash(permutation(n, seed)) == fingerprint


def test_the_split_of_cifar_starts_as_published() -> None:
    train, validation = random_split(45_000, 5_000)
    assert (train[:3].tolist(), validation[:3].tolist()) == ([37542, 44491, 216], [17408, 40845, 3378])
    assert (len(train), len(validation)) == (45_000, 5_000)
    assert index_hash(np.concatenate([train, validation])) == "55ecb6cd4e1eb482"


def test_the_split_is_that_of_torch() -> None:
    parts = torch_random_split(TensorDataset(torch.arange(70)), [60, 10], torch.Generator().manual_seed(7))
    ours = random_split(60, 10, seed=7)
    assert [part.tolist() for part in ours] == [list(part.indices) for part in parts]
    assert all(part.dtype == np.int64 for part in ours)


@given(train=st.integers(1, 200), validation=st.integers(1, 200), seed=st.integers(0, 2**32 - 1))
def test_a_split_holds_every_example_once(train: int, validation: int, seed: int) -> None:
    parts = random_split(train, validation, seed)
    assert tuple(map(len, parts)) == (train, validation)
    assert sorted(np.concatenate(parts).tolist()) == list(range(train + validation))


@pytest.mark.parametrize(
    ("train", "validation", "field"), [(0, 5, "train"), (5, 0, "validation"), (5, -1, "validation")]
)
def test_an_empty_side_is_refused(train: int, validation: int, field: str) -> None:
    with pytest.raises(ValueError, match=rf"^{field}=-?\d is not allowed: expected 1 or more"):
        random_split(train, validation)


def test_the_training_subset_is_the_published_one() -> None:
    chosen = train_subset(45_000)
    assert chosen.tolist() == np.random.default_rng(12345).permutation(45_000)[:1000].tolist()
    assert len(set(chosen.tolist())) == 1000


def test_the_training_subset_of_a_small_set_is_all_of_it() -> None:
    assert sorted(train_subset(7).tolist()) == list(range(7))
    assert len(train_subset(7, k=3)) == 3


def test_permuted_labels_follow_the_published_indices() -> None:
    label = np.arange(50_000)
    assert index_hash(permuted_labels(label)) == "d1c795582530f776"


def test_permuted_labels_keep_the_counts_and_leave_their_input() -> None:
    before = LABELS.copy()
    permuted = permuted_labels(LABELS)
    assert np.bincount(permuted).tolist() == [5_000] * 10
    np.testing.assert_array_equal(LABELS, before)
    # one in ten agrees by chance: 5,000, with a deviation of about 67
    assert abs(int((permuted == LABELS).sum()) - 5_000) < 400


def test_noise_is_drawn_after_the_permutation_from_one_generator() -> None:
    generator = torch.Generator().manual_seed(12345)
    expected = LABELS.tolist()
    order = torch.randperm(50_000, generator=generator).tolist()[:12_500]
    for index, label in zip(order, torch.randint(0, 10, (12_500,), generator=generator).tolist(), strict=True):
        expected[index] = label
    before = LABELS.copy()
    noisy = noisy_labels(LABELS, 0.25, 10)
    assert noisy.tolist() == expected
    np.testing.assert_array_equal(LABELS, before)
    # nine in ten of the labels drawn differ: 11,250, with a deviation of about 34
    assert abs(int((noisy != LABELS).sum()) - 11_250) < 200


def test_no_noise_changes_nothing_and_the_count_is_rounded_down() -> None:
    np.testing.assert_array_equal(noisy_labels(LABELS, 0.0, 10), LABELS)
    marked = np.full(10, -1)
    assert (noisy_labels(marked, 0.39, 10) >= 0).sum() == 3
    assert (noisy_labels(marked, 1.0, 10) >= 0).all()


@pytest.mark.parametrize("fraction", [-0.1, 1.1, float("nan")])
def test_a_fraction_of_noise_beyond_one_is_refused(fraction: float) -> None:
    with pytest.raises(ValueError, match=r"^fraction=.* is not allowed: expected a number from 0 to 1$"):
        noisy_labels(LABELS, fraction, 10)


def test_the_index_hash_is_of_little_endian_int64() -> None:
    expected = hashlib.sha256(struct.pack("<3q", 5, 0, 258)).hexdigest()[:16]
    assert index_hash([5, 0, 258]) == expected
    assert index_hash(np.array([5, 0, 258], ">i4")) == expected
    assert index_hash([0, 5, 258]) != expected


def test_the_index_hash_refuses_fractions() -> None:
    with pytest.raises(ValueError, match=r"^dtype of indices='float64' is not allowed: expected whole numbers$"):
        index_hash([0.5, 1.0])


@pytest.mark.parametrize("wrong", [10, 255, -1])
def test_a_label_beyond_the_classes_is_named_with_its_place(wrong: int) -> None:
    require_labels(np.array([0, 9]), 10, "some.bin")
    with pytest.raises(ValueError, match=rf"^some.bin: 1 of 3 labels .* 0..9, the first is {wrong} in record 2;"):
        require_labels(np.array([0, 9, wrong]), 10, "some.bin")
