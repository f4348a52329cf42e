"""Agreement with the first, the previous and the final checkpoint, and overlaps of leading subspaces."""

import math

import numpy as np
import pytest
import torch

from reference.series import HandMade, analysed, body_of
from reference.spectra import matrix_with, orthonormal
from specdyn.tasks.spectra.agreement import SUBSPACES, agreement, overlaps
from specdyn.tasks.spectra.decomposition import decompose

NAMES = ("agreement", "agreement_initial", "agreement_previous")


def turned(degrees: float) -> torch.Tensor:
    """A matrix whose left vectors are turned by an angle; its right vectors are the axes."""
    c, s = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    return torch.tensor([[c, -s], [s, c]]) @ torch.diag(torch.tensor([2.0, 1.0]))


def test_each_checkpoint_is_compared_with_the_first_the_previous_and_the_last() -> None:
    angles = (0.0, 20.0, 50.0, 55.0)
    series = HandMade({10 * i: {"w": turned(angle)} for i, angle in enumerate(angles)})
    found = analysed(series, body_of(series.weights(0)), NAMES)

    # Rounding the entries to float32 turns vectors of values 2 and 1 by 2^-24 * 2 / (2 - 1), LAPACK a few times as far.
    def cosines(*degrees: float) -> list[float]:
        return [math.cos(math.radians(angle)) for angle in degrees]

    np.testing.assert_allclose(found["agreement_score"][0], cosines(55, 35, 5, 0), atol=1e-6)
    np.testing.assert_allclose(found["agreement_initial_score"][0], cosines(0, 20, 50, 55), atol=1e-6)
    assert np.isnan(found["agreement_previous_score"][0, 0])
    np.testing.assert_allclose(found["agreement_previous_score"][0, 1:], cosines(20, 30, 5), atol=1e-6)
    np.testing.assert_allclose(found["agreement_previous"][0, 1:, 0], cosines(20, 30, 5), atol=1e-6)


def test_subspaces_of_the_leading_vectors_overlap_whatever_the_order_within() -> None:
    # The two leading directions are exchanged, the third and fourth are turned by 60 degrees into the others.
    c, s = 0.5, math.sqrt(0.75)
    basis = np.eye(6)[:, [1, 0, 2, 3, 4, 5]]
    rotation = np.eye(6)
    rotation[np.ix_([2, 4], [2, 4])] = rotation[np.ix_([3, 5], [3, 5])] = [[c, -s], [s, c]]
    values = np.diag([6.0, 5, 4, 3, 2, 1])
    current = torch.tensor(rotation @ basis @ values, dtype=torch.float32)
    final = torch.tensor(values, dtype=torch.float32)
    series = HandMade({0: {"w": current}, 1: {"w": final}})
    found = analysed(series, body_of(series.weights(0)), ["agreement"])["subspace_overlap"][0, 0]
    # left: 1 -> none, 2 -> all, 4 -> two of four turned, each with cosine 1/2; beyond R there is nothing
    np.testing.assert_allclose(found[0, :3], [0, 1, (2 + 2 * c**2) / 4], atol=1e-6)
    assert np.isnan(found[:, 3:]).all()
    np.testing.assert_allclose(found[1, :3], [1, 1, 1], atol=1e-6)


def test_overlaps_match_the_projectors() -> None:
    a, b = orthonormal(80, 70, 1), orthonormal(80, 70, 2)
    found = overlaps(torch.tensor(a.T @ b))
    for k, value in zip(SUBSPACES, found, strict=True):
        projectors = np.trace(a[:, :k] @ a[:, :k].T @ b[:, :k] @ b[:, :k].T)
        assert value == pytest.approx(projectors / k, abs=1e-12)


def test_chance_overlap_is_what_the_variable_says() -> None:
    found = [overlaps(torch.tensor(orthonormal(100, 64, 2 * i).T @ orthonormal(100, 64, 2 * i + 1))) for i in range(20)]
    np.testing.assert_allclose(np.mean(found, axis=0)[3:], [k / 100 for k in SUBSPACES[3:]], rtol=0.1)


@pytest.mark.parametrize("seed", range(3))
def test_agreement_does_not_change_under_rotations_of_both_checkpoints(seed: int) -> None:
    w, v = (matrix_with(np.linspace(2, 1, 6), 9, 6, s) for s in (seed, seed + 50))
    left, right = (torch.tensor(orthonormal(n, n, seed + n), dtype=torch.float32) for n in (9, 6))
    plain = agreement(decompose(w), decompose(v))
    rotated = agreement(decompose(left @ w @ right), decompose(left @ v @ right))
    np.testing.assert_allclose(rotated, plain, atol=1e-4)
    np.testing.assert_allclose(agreement(decompose(w.T), decompose(v.T)), plain, atol=1e-4)
    np.testing.assert_allclose(agreement(decompose(1e-3 * w), decompose(1e3 * v)), plain, atol=1e-4)
