"""The spectrum of an update, and the whole agreement with the final checkpoint."""

import math

import numpy as np
import pytest
import torch

from reference.spectra import matrix_with
from reference.views import matrix, of_layer
from specdyn.tasks.spectra.analysis import get_analysis


def test_an_update_is_the_difference_to_the_checkpoint_before() -> None:
    rng = np.random.default_rng(0)
    now, before, first = rng.normal(size=(3, 8, 5)).astype(np.float32).astype(float)
    found = of_layer("updates", matrix(now), initial=matrix(first), previous=matrix(before))
    s = np.linalg.svd(now - before, compute_uv=False)
    np.testing.assert_allclose(found["update_singular_value"], s, rtol=1e-6)
    p = s / s.sum()
    assert found["update_effective_rank"] == pytest.approx(np.exp(-(p * np.log(p)).sum()) / 5, rel=1e-6)
    assert found["update_relative_norm"] == pytest.approx(np.linalg.norm(now - before) / np.linalg.norm(now), rel=1e-5)
    ratios = (s[:-1] / s[1:])[:2]
    assert found["update_spectral_edge"] == 1 + ratios.argmax()
    assert found["update_spectral_edge_ratio"] == pytest.approx(ratios.max(), rel=1e-6)


def test_the_edge_is_the_rank_of_a_low_rank_update() -> None:
    before = matrix_with(np.linspace(2, 1, 12), 20, 12)
    found = of_layer("updates", before + matrix_with([3, 2.5, 2], 20, 12, seed=7), previous=before)
    assert found["update_spectral_edge"] == 3
    np.testing.assert_allclose(found["update_singular_value"][:3], [3, 2.5, 2], rtol=1e-5)


def test_the_first_checkpoint_has_no_update() -> None:
    assert of_layer("updates", torch.eye(3)) == {}


def test_what_did_not_change_has_an_update_of_norm_zero_and_no_shape() -> None:
    found = of_layer("updates", torch.eye(3), previous=torch.eye(3))
    assert found["update_relative_norm"] == 0
    assert found["update_singular_value"].tolist() == [0, 0, 0]
    assert math.isnan(found["update_effective_rank"])
    assert math.isnan(found["update_spectral_edge"])


def test_the_whole_agreement_has_rows_of_now_and_columns_of_the_end() -> None:
    # values 3 2 1 lie on axes 0 1 2 at the end, and on axes 2 0 1 now
    final, now = np.diag([3.0, 2.0, 1.0]), np.diag([2.0, 1.0, 3.0])
    found = of_layer("agreement_full", matrix(now), initial=matrix(np.eye(3)), final=matrix(final))["agreement_full"]
    np.testing.assert_allclose(found, [[0, 0, 1], [1, 0, 0], [0, 1, 0]], atol=1e-6)
    big = of_layer("agreement_full", matrix_with(np.linspace(2, 1, 70), 90, 70))["agreement_full"]
    # Products of float32 vectors err by 70 units of 2^-24 each, and an entry is one of left times one of right vectors.
    np.testing.assert_allclose(big, np.eye(70), atol=2 * 70 * 2.0**-24 * (1 + 1e-3))
    assert not get_analysis("agreement_full").default
