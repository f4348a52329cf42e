"""Weights near the ends of float32's range: numbers that are right, or an error that names what does not fit."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from reference.series import HandMade, body_of, stored, target_of
from reference.spectra import matrix_with
from reference.views import of_layer
from specdyn.models.nets.matrices import Matrix
from specdyn.storage.schema import OutOfRange
from specdyn.tasks.analyses import null_levels
from specdyn.tasks.spectra.decomposition import decompose
from specdyn.tasks.spectra.one_pass import analyse_block, decompose_step
from specdyn.tasks.spectra.truncation import energy_matched

STEPS = (0, 1)
LAYERS = ["agreement", "effective_rank", "norms", "shape", "spectrum", "updates"]


def at(step: int, scale: float) -> dict[str, Tensor]:
    """Two layers that feed one another; what changes between the steps has the size of the weights."""
    return {
        "a": scale * matrix_with([3, 2, 1, 0.5], 4, 5, step),
        "b": -scale * matrix_with([2, 1, 0.5], 3, 4, 7 - step),
    }


def analysed(folder: Path, scale: float, names: list[str]) -> dict[str, np.ndarray]:
    series = HandMade({step: at(step, scale) for step in STEPS})
    body = body_of(series.weights(0))
    target = target_of(str(folder), series, body, names)
    anchors = [decompose_step(series, body, step) for step in STEPS]
    for block in target.layout.blocks():
        analyse_block(series, body, target, block, names, *anchors)
    return stored(target)


@pytest.mark.parametrize("scale", [2.0**-110, 2.0**120])
def test_what_is_stored_of_a_layer_is_right_near_the_ends_of_the_range(scale: float, tmp_path: Path) -> None:
    plain, found = (analysed(tmp_path / str(size), size, LAYERS) for size in (1.0, scale))
    assert set(plain) == set(found)
    in_units = {"singular_value", "spectral_norm", "frobenius_norm", "nuclear_norm", "distance_from_initial"}
    in_units |= {"update_singular_value"}
    # 1e-10 is added to the values of these: a small layer reads as equal values.
    published = {"effective_rank", "effective_rank_count", "effective_rank_ratio", "collapse"}
    for name in set(plain) - (published if scale < 1 else {"collapse"}):
        expected = plain[name].astype(float) * (scale if name in in_units else 1)
        # Two roundings to float32.
        np.testing.assert_allclose(
            found[name].astype(float), expected, rtol=2.0**-22, atol=1e-7 * (name not in in_units), err_msg=name
        )
        assert not np.isinf(found[name]).any()


def test_what_does_not_fit_into_float32_is_refused_by_variable_step_and_layer(tmp_path: Path) -> None:
    # The largest singular value 3e38 fits, the root of the sum of their squares does not.
    with pytest.raises(OutOfRange, match=r"^variable 'frobenius_norm' at .* layer a: \S+e\+\d\d is out of range"):
        analysed(tmp_path, 1e38, ["norms"])


def test_squares_of_large_weights_are_finite(tmp_path: Path) -> None:
    plain, found = (analysed(tmp_path / str(size), size, ["marchenko_pastur"]) for size in (1.0, 2.0**100))
    for name in set(plain) - {"mp_lower_edge", "mp_upper_edge"}:
        np.testing.assert_allclose(found[name], plain[name], rtol=1e-6, err_msg=name)
    for name in ("mp_lower_edge", "mp_upper_edge"):
        np.testing.assert_allclose(found[name], plain[name] * 2.0**200, rtol=1e-12, err_msg=name)


@pytest.mark.parametrize("scale", [2.0**-145, 2.0**127])
def test_levels_of_chance_do_not_leave_the_range(scale: float) -> None:
    # Gaussian entries with that mean square would: a few are three times as large.
    w = torch.randn(12, 9, generator=torch.Generator().manual_seed(0)).sign()
    plain, found = null_levels.of_layer(w, "w"), null_levels.of_layer(scale * w, "w")
    in_units = {"null_spectral_norm", "null_nuclear_norm"}
    for name in set(plain) - {"null_power_law_alpha_hat", "null_power_law_log_alpha_norm"}:
        np.testing.assert_allclose(
            found[name], plain[name] * (scale if name in in_units else 1), rtol=1e-6, err_msg=name
        )


@pytest.mark.parametrize("scale", [2.0**-110, 2.0**120])
def test_energy_is_matched_near_the_ends_of_the_range(scale: float) -> None:
    w = matrix_with(np.geomspace(2, 0.1, 8), 8, 10)
    plain, found = (energy_matched(0.5)(Matrix(parameter="w"), size * w, decompose(size * w)) for size in (1, scale))
    torch.testing.assert_close(found.double(), plain.double() * scale, rtol=1e-6, atol=1e-7 * scale)


def test_layers_at_opposite_ends_of_the_range_have_the_distance_of_float64() -> None:
    w = 3e38 * torch.eye(3)
    # The entries differ by 6e38, which only float64 holds.
    found = of_layer("norms", w, initial=-w)
    assert found["distance_from_initial"] == pytest.approx(6e38 * 3**0.5, rel=1e-6)
    assert found["relative_distance_from_initial"] == pytest.approx(2, rel=1e-6)
    assert of_layer("updates", w, previous=-w)["update_singular_value"] == pytest.approx([6e38] * 3, rel=1e-6)
