"""One shot of noise on the matrices of a network."""

import math

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor, nn

from reference.spectra import matrix_with, orthonormal
from specdyn.models.nets.matrices import Matrix, layers
from specdyn.models.spec.start import Perturbation
from specdyn.tasks.failures import NotFinite
from specdyn.tasks.spectra.decomposition import Factors, decompose
from specdyn.tasks.training.perturbations import noise_in_directions, noise_random, perturb, perturbed

SIZES = (0.1, 0.25, 0.5, 1.0, 2.5)


class Convolutions(nn.Module):
    """A convolution, its transpose, a line of rank 1, and a head."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 6, 3)
        self.tconv = nn.ConvTranspose2d(6, 4, (2, 3))
        self.norm = nn.BatchNorm2d(4)
        self.line = nn.Linear(5, 1, bias=False)
        self.head = nn.Linear(4, 3)


def network() -> tuple[dict[str, Tensor], tuple[Matrix, ...]]:
    torch.manual_seed(0)
    net = Convolutions()
    return {name: tensor.detach() for name, tensor in net.state_dict().items()}, layers(net)


def perturbation(size: float, direction: str, seed: int) -> Perturbation:
    return Perturbation(size=size, direction=direction, noise_seed=seed)


def in_numpy(matrix: Matrix, weights: dict[str, Tensor]) -> np.ndarray:
    """The matrix in float64, made by numpy alone."""
    w = weights[matrix.parameter].double().numpy()
    w = w.swapaxes(0, 1) if "tconv" in matrix.parameter else w
    return w.reshape(len(w), -1)


def far(w: np.ndarray, v: np.ndarray) -> float:
    """Distance over the norm of the first."""
    return float(np.linalg.norm(v - w) / np.linalg.norm(w))


def orthogonal_noise(m: Tensor) -> Tensor:
    """Gaussian noise whose inner product with the matrix is zero."""
    exact = m.double()
    noise = torch.tensor(np.random.default_rng(3).normal(size=m.shape))
    return noise - exact * (noise * exact).sum() / exact.square().sum()


@pytest.mark.parametrize("size", SIZES)
def test_without_scaling_back_the_matrix_moves_by_the_size(size: float) -> None:
    m = matrix_with([4, 2, 1], 5, 7)
    noise = torch.tensor(np.random.default_rng(0).normal(size=(5, 7)), dtype=torch.float32)
    moved = perturbed(m, size, noise, keep_norm=False)
    assert far(m.double().numpy(), moved.double().numpy()) == pytest.approx(size, rel=1e-5)
    step = (moved - m).flatten() @ noise.flatten()
    assert float(step / ((moved - m).norm() * noise.norm())) == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("size", SIZES)
def test_scaled_back_the_norm_stays_and_orthogonal_noise_turns_by_the_arc_tangent_of_the_size(size: float) -> None:
    m = matrix_with([4, 2, 1], 5, 7)
    before = m.double().numpy()
    after = perturbed(m, size, orthogonal_noise(m)).double().numpy()
    assert np.linalg.norm(after) == pytest.approx(np.sqrt(21), rel=1e-6)
    assert far(before, after) == pytest.approx(math.sqrt(2 - 2 / math.sqrt(1 + size**2)), rel=1e-5)
    cosine = (before * after).sum() / np.linalg.norm(before) / np.linalg.norm(after)
    assert math.acos(cosine) == pytest.approx(math.atan(size), rel=1e-5)


def test_the_published_formula_in_numbers() -> None:
    m, noise = torch.tensor([[3.0, 0.0], [0.0, 4.0]]), torch.tensor([[0.0, 2.0], [0.0, 0.0]])
    # ||M|| = 5, so that M + 0.5 * 5 * N has 2.5 in the corner, and a norm of sqrt(25 + 6.25)
    moved = torch.tensor([[3.0, 2.5], [0.0, 4.0]])
    torch.testing.assert_close(perturbed(m, 0.5, noise, keep_norm=False), moved)
    torch.testing.assert_close(perturbed(m, 0.5, noise), moved * 5 / math.sqrt(31.25))


@pytest.mark.parametrize("scale", [1e-30, 1e-6, 1e4, 1e30])
def test_the_scale_of_the_noise_makes_no_difference(scale: float) -> None:
    m = matrix_with([4, 2, 1], 5, 7)
    noise = noise_random(m, 0, "a")
    torch.testing.assert_close(perturbed(m, 0.5, noise * scale), perturbed(m, 0.5, noise), rtol=1e-5, atol=1e-6)
    shrunk = perturbed(m * 2.0**-60, 0.5, noise)
    torch.testing.assert_close(shrunk * 2.0**60, perturbed(m, 0.5, noise), rtol=1e-5, atol=1e-6)


def test_size_zero_is_a_copy_with_the_same_bits() -> None:
    m = torch.tensor([[0.1, -0.0, 1e-40], [3e30, -7.3, 1 / 3]])
    same = perturbed(m, 0, torch.ones(2, 3))  # -0.0 + 0 * 1 would be 0.0
    assert same.numpy().tobytes() == m.numpy().tobytes()
    same.zero_()
    assert m.any()


@pytest.mark.parametrize("keep_norm", [True, False])
def test_a_zero_matrix_stays_zero(keep_norm: bool) -> None:
    zero = torch.zeros(3, 4)
    moved = perturbed(zero, 2.5, noise_random(zero, 0, "a"), keep_norm)
    assert torch.equal(moved, zero)


def test_what_cannot_be_done_is_refused() -> None:
    m = torch.ones(2, 3)
    for size in (-0.1, math.nan, math.inf):
        with pytest.raises(ValueError, match=r"size=.* is not allowed: expected a finite number of 0 or more"):
            perturbed(m, size, m)
    with pytest.raises(
        ValueError, match=r"shape of the noise for the matrix=\(3, 2\) is not allowed: expected \(2, 3\)"
    ):
        perturbed(m, 0.1, m.T)
    for noise in (0.0, math.nan):
        with pytest.raises(ValueError, match=r"norm of the noise for it=.* is not allowed: expected a finite number"):
            perturbed(m, 0.1, m * noise, what="it")
    with pytest.raises(NotFinite, match="it: 6 of 6 entries"):
        perturbed(m * math.inf, 0, m, what="it")
    with pytest.raises(ValueError, match=r"size for it=1.0 is not allowed: expected one at which the noise does not"):
        perturbed(m, 1.0, -3 * m, what="it")
    torch.testing.assert_close(perturbed(m, 1.0, -3 * m, keep_norm=False), m * 0, rtol=0, atol=1e-7)


def test_random_noise_is_gaussian_and_of_seed_and_name() -> None:
    m = torch.zeros(120, 80)
    noise = noise_random(m, 1, "a")
    assert noise.shape == m.shape
    assert stats.kstest(noise.flatten().numpy(), stats.norm.cdf).pvalue > 1e-3
    assert torch.equal(noise, noise_random(m + 5, 1, "a"))
    for other in (noise_random(m, 2, "a"), noise_random(m, 1, "b")):
        # the correlation of 9600 independent pairs has a standard deviation of 0.0102
        assert abs(float(torch.corrcoef(torch.stack([noise.flatten(), other.flatten()]))[0, 1])) < 0.05


def planted(rows: int, columns: int) -> tuple[Factors, np.ndarray, np.ndarray]:
    """Factors whose vectors numpy made: R = 8 values, float64 vectors beside them."""
    left, right = orthonormal(rows, 8, 0), orthonormal(columns, 8, 1)
    s = np.linspace(2, 1, 8)
    w = torch.tensor((left * s) @ right.T, dtype=torch.float32)
    return decompose(w), left, right


@pytest.mark.parametrize("shape", [(8, 12), (12, 8), (8, 8), (40, 8)])
@pytest.mark.parametrize(("which", "count"), [("top", 1), ("top", 3), ("bottom", 1), ("bottom", 3), ("top", 8)])
def test_directed_noise_lies_in_the_span_of_the_directions_alone(
    shape: tuple[int, int], which: str, count: int
) -> None:
    factors, left, right = planted(*shape)
    noise = noise_in_directions(factors, count, which, 0, "a").double().numpy()
    assert noise.shape == shape
    u, v = (side[:, :count] if which == "top" else side[:, -count:] for side in (left, right))
    norm = np.linalg.norm(noise)
    assert np.linalg.norm(noise - u @ u.T @ noise @ v @ v.T) < 1e-5 * norm
    s = np.linalg.svd(noise, compute_uv=False)
    assert s[count - 1] > 1e-3 * s[0]
    # orthonormal vectors leave the norm of G, a chi variable of k^2 degrees
    assert 1e-4 < stats.chi.cdf(norm, count**2) < 1 - 1e-4


def test_directed_noise_has_gaussian_coefficients_of_seed_and_name() -> None:
    identity = torch.eye(100)
    factors = Factors(identity, torch.ones(100), identity, 1)
    noise = noise_in_directions(factors, 100, "top", 0, "a")
    assert stats.kstest(noise.flatten().numpy(), stats.norm.cdf).pvalue > 1e-3
    assert torch.equal(noise, noise_in_directions(factors, 100, "top", 0, "a"))
    for other in (noise_in_directions(factors, 100, "top", 1, "a"), noise_in_directions(factors, 100, "top", 0, "b")):
        assert abs(float(torch.corrcoef(torch.stack([noise.flatten(), other.flatten()]))[0, 1])) < 0.05


def test_directions_that_there_are_not_are_refused() -> None:
    factors = planted(8, 12)[0]
    for count in (0, -1, 9):
        with pytest.raises(ValueError, match=f"count={count} is not allowed: expected 1 to 8 directions of layer.1"):
            noise_in_directions(factors, count, "top", 0, "layer.1")
    with pytest.raises(ValueError, match=r"unknown end of the spectrum 'botom': .* did you mean 'bottom'"):
        noise_in_directions(factors, 1, "botom", 0, "a")


@pytest.mark.parametrize("kind", ["random", "top", "bottom"])
def test_every_matrix_but_the_last_is_perturbed_in_its_own_shape(kind: str) -> None:
    weights, matrices = network()
    before = {name: tensor.clone() for name, tensor in weights.items()}
    found = perturb(weights, matrices, perturbation(0.5, kind, 3), count=2)
    assert list(found) == list(weights)
    assert all(torch.equal(weights[name], before[name]) for name in weights)
    changed = {name for name in weights if not torch.equal(found[name], weights[name])}
    # one row has but one left direction, so that noise within it cannot turn it at the right norm
    assert changed - {"line.weight"} == {"conv.weight", "tconv.weight"}
    for matrix in matrices[:-1]:
        assert found[matrix.parameter].shape == weights[matrix.parameter].shape
        w, v = in_numpy(matrix, weights), in_numpy(matrix, found)
        assert np.linalg.norm(v) == pytest.approx(np.linalg.norm(w), rel=1e-5)
    Convolutions().load_state_dict(found)


@pytest.mark.parametrize("kind", ["random", "top", "bottom"])
def test_without_scaling_back_every_matrix_moves_by_the_size(kind: str) -> None:
    weights, matrices = network()
    found = perturb(weights, matrices, perturbation(0.25, kind, 3), count=2, keep_norm=False)
    for matrix in matrices[:-1]:
        assert far(in_numpy(matrix, weights), in_numpy(matrix, found)) == pytest.approx(0.25, rel=1e-4)


@pytest.mark.parametrize("kind", ["top", "bottom"])
def test_directed_perturbations_leave_all_other_directions(kind: str) -> None:
    weights, matrices = network()
    found = perturb(weights, matrices, perturbation(0.5, kind, 3), count=2, keep_norm=False)
    for matrix in matrices[:2]:
        w, v = in_numpy(matrix, weights), in_numpy(matrix, found)
        left, _, right = np.linalg.svd(w, full_matrices=False)
        a = left.T @ (v - w) @ right.T
        inside = slice(0, 2) if kind == "top" else slice(-2, None)
        assert np.linalg.norm(a[inside, inside]) == pytest.approx(np.linalg.norm(v - w), rel=1e-4)
        assert np.linalg.norm(v - w) == pytest.approx(0.5 * np.linalg.norm(w), rel=1e-4)


@pytest.mark.parametrize("kind", ["random", "top", "bottom"])
def test_a_perturbation_of_size_zero_changes_no_bit(kind: str) -> None:
    weights, matrices = network()
    found = perturb(weights, matrices, perturbation(0, kind, 3))
    assert all(found[name].numpy().tobytes() == weights[name].numpy().tobytes() for name in weights)


def test_random_perturbations_depend_on_seed_and_name_and_have_the_matrix_shape() -> None:
    weights, matrices = network()
    found = perturb(weights, matrices, perturbation(1.0, "random", 3))
    tconv = Matrix(parameter="tconv.weight", transposed=True)
    assert tconv in matrices
    w, noise = in_numpy(tconv, weights), noise_random(tconv.of(weights), 3, "tconv.weight").double().numpy()
    moved = w + np.linalg.norm(w) * noise / np.linalg.norm(noise)
    moved *= np.linalg.norm(w) / np.linalg.norm(moved)
    np.testing.assert_allclose(in_numpy(tconv, found), moved, rtol=0, atol=1e-6)
    again, other = (perturb(weights, matrices[1:], perturbation(1.0, "random", seed)) for seed in (3, 4))
    assert torch.equal(again["tconv.weight"], found["tconv.weight"])
    assert not torch.equal(other["tconv.weight"], found["tconv.weight"])


def test_noise_within_the_only_direction_of_a_layer_leaves_it_turns_it_round_or_cancels_it() -> None:
    weights, matrices = network()
    w, line = weights["line.weight"], [Matrix(parameter="line.weight"), matrices[-1]]
    factors, signs = decompose(w), set[bool]()
    for seed in range(8):
        along = float((noise_in_directions(factors, 1, "top", seed, "line.weight") * w).sum()) > 0
        signs.add(along)
        turned = perturb(weights, line, perturbation(2.5, "top", seed))["line.weight"]
        torch.testing.assert_close(turned, w if along else -w)
        if along:
            torch.testing.assert_close(perturb(weights, line, perturbation(1.0, "top", seed))["line.weight"], w)
        else:
            with pytest.raises(ValueError, match=r"size for layer line.weight=1.0 is not allowed"):
                perturb(weights, line, perturbation(1.0, "top", seed))
    assert signs == {True, False}


def test_a_perturbation_that_makes_no_sense_is_refused() -> None:
    weights, matrices = network()
    with pytest.raises(ValueError, match="unknown direction 'tops': known are bottom, random, top"):
        perturbation(0.1, "tops", 0)
    with pytest.raises(ValueError, match="count=0 is not allowed: expected 1 direction or more"):
        perturb(weights, matrices, perturbation(0.1, "top", 0), count=0)
    for part in (
        Matrix(parameter="conv.weight", part="q", rows=(0, 2)),
        Matrix(parameter="conv.weight", columns=(0, 3)),
        Matrix(parameter="conv.weight", heads=2),
    ):
        with pytest.raises(ValueError, match=r"matrix='conv.weight.*' is not allowed: expected whole parameters"):
            perturb(weights, [part, *matrices[1:]], perturbation(0.1, "random", 0))
    for kind in ("random", "top"):
        with pytest.raises(NotFinite, match=r"layer conv.weight: 162 of 162 entries"):
            perturb({**weights, "conv.weight": weights["conv.weight"] * math.nan}, matrices, perturbation(0.1, kind, 0))
