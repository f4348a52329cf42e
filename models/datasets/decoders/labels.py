"""Splits, permuted labels and label noise as published, and fingerprints of the indices (METHOD 0.1, 1.2; DATA 1.1)."""

import hashlib

import numpy as np
import numpy.typing as npt

from specdyn.models.spec.checks import require

SPLIT_SEED = 42
LABEL_SEED = 12345
Indices = npt.NDArray[np.int64]


def permutation(n: int, seed: int) -> Indices:
    """The numbers 0..n-1 in the order of torch's CPU generator at the seed, int64 (n,)."""
    import torch

    order: Indices = torch.randperm(n, generator=torch.Generator().manual_seed(seed)).numpy()
    return order


def random_split(train: int, validation: int, seed: int = SPLIT_SEED) -> tuple[Indices, Indices]:
    """Training and validation indices of `train + validation` examples, in the published order, int64.

    CIFAR-10 is split 45,000/5,000 and MNIST 54,000/6,000, both at seed 42 (METHOD 1.2, 1.3).
    """
    require(train > 0, "train", train, "1 or more examples to train on")
    require(validation > 0, "validation", validation, "1 or more examples to validate on")
    order = permutation(train + validation, seed)
    return order[:train], order[train:]


def train_subset(n: int, k: int = 1000) -> Indices:
    """Indices of the k of n training examples used for training metrics, all n if there are fewer; int64."""
    return np.random.default_rng(LABEL_SEED).permutation(n)[:k]


def permuted_labels(label_N: Indices, seed: int = LABEL_SEED) -> Indices:
    """All labels in random order, which preserves the class counts; int64 (n,), a copy.

    To be applied before the split: the validation labels are random too (METHOD 1.2, random labels).
    """
    return label_N[permutation(len(label_N), seed)]


def noisy_labels(label_N: Indices, fraction: float, classes: int, seed: int = LABEL_SEED) -> Indices:
    """Labels with the given fraction redrawn from all classes; int64 (n,), a copy.

    A drawn label may be the old one. To be applied before the split (METHOD 1.2, label noise).
    """
    import torch

    require(0 <= fraction <= 1, "fraction", fraction, "a number from 0 to 1")
    generator = torch.Generator().manual_seed(seed)
    chosen = torch.randperm(len(label_N), generator=generator)[: int(len(label_N) * fraction)].numpy()
    noisy = label_N.copy()
    noisy[chosen] = torch.randint(0, classes, (len(chosen),), generator=generator).numpy()
    return noisy


def index_hash(indices: npt.ArrayLike) -> str:
    """First 16 hex digits of the sha256 of the indices as little-endian int64.

    Stored with results, so that a torch that draws other numbers is noticed. ValueError unless all are whole numbers.
    """
    array = np.asarray(indices)
    require(array.dtype.kind in "iu", "dtype of indices", str(array.dtype), "whole numbers")
    return hashlib.sha256(array.astype("<i8").tobytes()).hexdigest()[:16]


def require_labels(label_N: npt.NDArray[np.integer], classes: int, source: object) -> None:
    """ValueError naming the source, the first label outside 0..classes-1 and its position, if there is one."""
    wrong = np.flatnonzero((label_N < 0) | (label_N >= classes))
    if wrong.size:
        raise ValueError(
            f"{source}: {wrong.size} of {len(label_N)} labels lie outside 0..{classes - 1}, "
            f"the first is {label_N[wrong[0]]} in record {wrong[0]}; the file is of another set or damaged"
        )
