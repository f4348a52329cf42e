"""Lottery-ticket masks."""

import hashlib
import itertools
import math
import subprocess
import sys
from collections import Counter

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor, nn

from specdyn.tasks.failures import NotFinite
from specdyn.tasks.training.masks import (
    apply,
    densities,
    further,
    kept_energy,
    magnitude,
    mask_id,
    overlap,
    pack,
    random_like,
    redrawn,
    shuffled,
    unpack,
)

SHAPES = {"early": (40, 50), "late": (10, 6, 4, 5)}
"""2000 and 1200 weights, 3200 in all."""


def distinct(seed: int = 0) -> dict[str, Tensor]:
    """Weights in SHAPES without two equal magnitudes: 1 to 3200 in random order and with random signs."""
    random = np.random.default_rng(seed)
    entries = (random.permutation(3200) + 1) * random.choice([-1, 1], 3200)
    parts = np.split(entries.astype(np.float32), [2000])
    return {name: torch.tensor(part).view(SHAPES[name]) for name, part in zip(SHAPES, parts, strict=True)}


def count(mask: dict[str, Tensor]) -> int:
    return sum(int(kept.sum()) for kept in mask.values())


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return list(a) == list(b) and all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize(("density", "kept"), [(0.1, 319), (0.01, 31), (0.05, 159), (0.9999, 3198)])
def test_the_largest_magnitudes_of_all_layers_together_are_kept(density: float, kept: int) -> None:
    weights = distinct()
    mask = magnitude(weights, density)
    assert count(mask) == kept
    for name, w in weights.items():
        # the magnitudes are 1 to 3200, so that the largest ones are those above 3200 - kept
        assert torch.equal(mask[name], w.abs() > 3200 - kept)
        assert mask[name].dtype == torch.bool


def test_weights_that_tie_with_the_threshold_are_not_kept() -> None:
    mask = magnitude({"a": torch.tensor([[5.0, -4.0, 4.0, 4.0, 1.0]])}, 0.6)
    assert mask["a"].tolist() == [[True, False, False, False, False]]


def test_density_one_keeps_everything_even_zeros() -> None:
    mask = magnitude({"a": torch.zeros(3, 4), "b": torch.ones(2, 2)}, 1)
    assert mask["a"].all() and mask["b"].all()


@pytest.mark.parametrize("density", [0, -0.1, 1.01, math.nan, math.inf])
def test_densities_that_are_none_are_refused(density: float) -> None:
    with pytest.raises(ValueError, match=r"density=.* is not allowed: expected a number above 0, at most 1"):
        magnitude(distinct(), density)


@pytest.mark.parametrize("density", [1e-4, 1.9 / 3200])
def test_a_density_that_keeps_nothing_is_refused(density: float) -> None:
    expected = f"density={density!r} keeps 0 of 3200 weights and none of early, late: raise the density"
    with pytest.raises(ValueError, match=expected):
        magnitude(distinct(), density)


def test_a_layer_that_is_left_without_weights_is_named() -> None:
    weights = {"strong": torch.arange(1.0, 81).view(8, 10), "weak": torch.full((4, 5), 0.1)}
    expected = (
        r"density=0.5 keeps 49 of 100 weights and none of weak: raise the density, or leave such layers out of the mask"
    )
    with pytest.raises(ValueError, match=expected):
        magnitude(weights, 0.5)


def test_weights_that_are_not_finite_are_refused_by_name() -> None:
    weights = distinct()
    weights["late"][0, 0, 0, 0] = math.nan
    with pytest.raises(NotFinite, match="layer late: 1 of 1200"):
        magnitude(weights, 0.1)


def test_going_further_among_the_kept_weights_is_the_mask_of_the_smaller_density() -> None:
    weights = distinct()
    assert same(further(magnitude(weights, 0.5), weights, 0.1), magnitude(weights, 0.1))


def test_going_further_never_takes_a_removed_weight_back() -> None:
    mask = {"a": torch.tensor([[True, True, True, False, False, True]])}
    weights = {"a": torch.tensor([[1.0, -2.0, 3.0, 9.0, 8.0, 4.0]])}
    # int(0.5 * 6) = 3rd largest of 1, 2, 3, 4 is 2
    assert further(mask, weights, 0.5)["a"].tolist() == [[False, False, True, False, False, True]]
    # as many places as weights kept: all but the least
    assert further(mask, weights, 0.66)["a"].tolist() == [[False, False, True, False, False, True]]


@pytest.mark.parametrize("density", [1599 / 3200, 0.4997, 0.5, 1, 0, -1, math.nan])
def test_going_further_asks_for_a_smaller_density(density: float) -> None:
    mask = magnitude(distinct(), 0.5)  # keeps 1599
    with pytest.raises(ValueError, match=f"expected a number above 0, below the mask's own {1599 / 3200}"):
        further(mask, distinct(), density)


def test_going_further_to_nothing_is_refused() -> None:
    mask = magnitude(distinct(), 0.5)
    with pytest.raises(ValueError, match=r"density=0.0001 keeps 0 of 3200 weights and none of early, late"):
        further(mask, distinct(), 1e-4)
    with pytest.raises(NotFinite, match="layer early"):
        further(mask, {**distinct(), "early": torch.full(SHAPES["early"], math.inf)}, 0.1)


def test_a_random_mask_has_the_density_of_each_layer() -> None:
    mask = magnitude(distinct(), 0.1)
    drawn = random_like(mask, 3)
    assert {name: int(kept.sum()) for name, kept in drawn.items()} == {
        name: int(kept.sum()) for name, kept in mask.items()
    }
    assert {name: (kept.shape, kept.dtype) for name, kept in drawn.items()} == {
        name: (kept.shape, torch.bool) for name, kept in mask.items()
    }
    assert same(drawn, random_like(mask, 3))
    assert not same(drawn, random_like(mask, 4))
    # two independent masks of density d share d / (2 - d) of their union
    for name, shared in overlap(drawn, mask).items():
        d = densities(mask)[name]
        assert shared == pytest.approx(d / (2 - d), abs=0.05)


def test_layers_of_one_shape_get_masks_of_their_own() -> None:
    half = torch.arange(100).view(10, 10) < 50
    drawn = random_like({"a": half, "b": half}, 0)
    assert not torch.equal(drawn["a"], drawn["b"])
    assert torch.equal(drawn["b"], random_like({"b": half}, 0)["b"])


def test_every_subset_is_equally_likely_to_be_drawn() -> None:
    mask = {"a": torch.tensor([[True, True], [False, False]])}
    drawn = Counter(tuple(random_like(mask, seed)["a"].flatten().tolist()) for seed in range(1800))
    assert set(drawn) == {kept for kept in itertools.product([True, False], repeat=4) if sum(kept) == 2}
    assert stats.chisquare(list(drawn.values())).pvalue > 1e-3


def test_shuffled_weights_are_the_same_weights_in_other_places_of_their_layer() -> None:
    weights = distinct()
    moved = shuffled(weights, 1)
    for name, w in weights.items():
        assert moved[name].shape == w.shape
        assert torch.equal(moved[name].flatten().sort().values, w.flatten().sort().values)
        assert (moved[name] == w).float().mean() < 0.01
    assert same(moved, shuffled(weights, 1))
    assert not same(moved, shuffled(weights, 2))


def test_the_mask_of_shuffled_weights_keeps_as_much_of_each_layer_in_other_places() -> None:
    weights = distinct()
    moved = shuffled(weights, 1)
    mask, control = magnitude(weights, 0.1), magnitude(moved, 0.1)
    assert densities(control) == densities(mask)
    assert kept_energy(moved, control) == pytest.approx(kept_energy(weights, mask))
    assert all(shared < 0.15 for shared in overlap(mask, control).values())


def test_every_order_is_equally_likely() -> None:
    weights = {"a": torch.tensor([[1.0, 2.0, 3.0]])}
    orders = Counter(tuple(shuffled(weights, seed)["a"][0].tolist()) for seed in range(1800))
    assert set(orders) == set(itertools.permutations([1.0, 2.0, 3.0]))
    assert stats.chisquare(list(orders.values())).pvalue > 1e-3


@pytest.mark.parametrize("layer", [nn.Linear(30, 200), nn.Conv2d(5, 40, (2, 3)), nn.ConvTranspose2d(40, 5, (2, 3))])
def test_redrawn_weights_are_distributed_like_a_new_layer(layer: nn.Module) -> None:
    torch.manual_seed(0)
    w = layer.weight.detach()
    fresh = redrawn({"a": w}, 7)["a"]
    assert (fresh.shape, fresh.dtype) == (w.shape, w.dtype)
    bound = 1 / math.sqrt(30)
    assert 0.99 * bound < float(fresh.abs().max()) <= bound
    assert stats.kstest(fresh.flatten().numpy(), stats.uniform(-bound, 2 * bound).cdf).pvalue > 1e-3
    # torch's own initialisation fills the same interval
    assert float(w.abs().max()) == pytest.approx(bound, rel=0.01)


def test_redrawn_weights_depend_on_seed_and_name_alone() -> None:
    weights = {"a": torch.zeros(6, 5), "b": torch.zeros(6, 5)}
    fresh = redrawn(weights, 7)
    assert same(fresh, redrawn({name: w + 1 for name, w in weights.items()}, 7))
    assert not torch.equal(fresh["a"], fresh["b"])
    assert not torch.equal(fresh["a"], redrawn(weights, 8)["a"])
    assert redrawn({"a": torch.zeros(6, 5, dtype=torch.float64)}, 7)["a"].dtype == torch.float64


def test_a_draw_leaves_the_global_generator_alone() -> None:
    torch.manual_seed(5)
    before = torch.get_rng_state()
    weights = distinct()
    random_like(magnitude(weights, 0.1), 0), shuffled(weights, 0), redrawn(weights, 0)
    assert torch.equal(torch.get_rng_state(), before)


def test_masked_weights_are_exactly_zero_whatever_was_there() -> None:
    w = torch.tensor([[-0.0, math.nan, -3.0], [math.inf, 5.0, -0.0]])
    mask = {"a": torch.tensor([[False, False, True], [False, True, True]])}
    weights = {"bias": torch.ones(2), "a": w}
    masked = apply(weights, mask)
    assert list(masked) == ["bias", "a"]
    assert masked["a"].tolist() == [[0, 0, -3], [0, 5, 0]]
    assert masked["a"].signbit().tolist() == [[False, False, True], [False, False, True]]
    assert masked["bias"] is weights["bias"]
    assert math.isnan(w[0, 1]) and masked["a"].data_ptr() != w.data_ptr()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_masked_weights_keep_their_type(dtype: torch.dtype) -> None:
    masked = apply({"a": torch.ones(2, 2, dtype=dtype)}, {"a": torch.eye(2, dtype=torch.bool)})
    assert masked["a"].dtype == dtype
    assert masked["a"].tolist() == [[1, 0], [0, 1]]


def test_everything_kept_is_a_copy() -> None:
    weights = distinct()
    masked = apply(weights, magnitude(weights, 1))
    assert same(masked, weights)
    masked["early"].zero_()
    assert weights["early"].all()


def test_a_mask_of_other_layers_is_refused() -> None:
    mask = {"a": torch.ones(2, 3, dtype=torch.bool)}
    with pytest.raises(ValueError, match=r"shape of a in the weights='missing' is not allowed: expected \(2, 3\)"):
        apply({"b": torch.ones(2, 3)}, mask)
    with pytest.raises(ValueError, match=r"shape of a in the weights=\(3, 2\) is not allowed: expected \(2, 3\)"):
        kept_energy({"a": torch.ones(3, 2)}, mask)
    with pytest.raises(ValueError, match=r"shape of a in the weights=\(2, 1\) is not allowed"):
        further(mask, {"a": torch.ones(2, 1)}, 0.5)
    with pytest.raises(ValueError, match=r"shape of a in the other mask=\(1, 3\) is not allowed"):
        overlap(mask, {"a": torch.ones(1, 3, dtype=torch.bool)})
    with pytest.raises(ValueError, match=r"layers=\['a', 'b'\] is not allowed: expected those of the other mask"):
        overlap(mask, {**mask, "b": mask["a"]})


def test_kept_energy_is_the_share_of_the_squares() -> None:
    mask = {"a": torch.tensor([[True, False], [False, True]]), "zero": torch.ones(2, 1, dtype=torch.bool)}
    weights = {"a": torch.tensor([[1.0, 2.0], [-3.0, -4.0]]), "zero": torch.zeros(2, 1), "other": torch.ones(3)}
    energy = kept_energy(weights, mask)
    assert energy["a"] == pytest.approx(17 / 30)
    assert math.isnan(energy["zero"])
    assert list(energy) == ["a", "zero"]


def test_a_twentieth_of_gaussian_weights_by_magnitude_keeps_28_percent_of_the_energy() -> None:
    weights = {"a": torch.tensor(np.random.default_rng(0).normal(size=(400, 500)), dtype=torch.float32)}
    mask = magnitude(weights, 0.05)
    # E[z^2; |z| > q] = 2 (q phi(q) + 1 - Phi(q)) at the quantile q of 1 - 0.05 / 2
    q = stats.norm.ppf(0.975)
    assert kept_energy(weights, mask)["a"] == pytest.approx(2 * (q * stats.norm.pdf(q) + 0.025), abs=0.004)
    assert kept_energy(weights, random_like(mask, 0))["a"] == pytest.approx(0.05, abs=0.004)


def test_overlap_is_intersection_over_union() -> None:
    a = {"x": torch.tensor([[True, True, False, False]]), "none": torch.zeros(1, 2, dtype=torch.bool)}
    b = {"none": torch.zeros(1, 2, dtype=torch.bool), "x": torch.tensor([[False, True, True, False]])}
    shared = overlap(a, b)
    assert shared["x"] == pytest.approx(1 / 3)
    assert math.isnan(shared["none"])
    assert overlap(a, a)["x"] == 1
    assert overlap(a, {**a, "x": ~a["x"]})["x"] == 0


def test_densities_are_the_shares_kept() -> None:
    mask = {"a": torch.tensor([[True, False], [False, False]]), "b": torch.ones(3, 3, dtype=torch.bool)}
    assert densities(mask) == {"a": 0.25, "b": 1}
    assert math.isnan(densities({"a": torch.ones(0, 3, dtype=torch.bool)})["a"])


def test_eight_entries_are_packed_into_a_byte_from_the_highest_bit() -> None:
    entries = torch.tensor([[1, 0, 1], [1, 0, 0], [0, 0, 1]], dtype=torch.bool)
    packed = pack({"a": entries})
    assert packed["a"].dtype == torch.uint8
    assert packed["a"].tolist() == [0b10110000, 0b10000000]
    assert torch.equal(unpack(packed, {"a": (3, 3)})["a"], entries)
    assert pack({"a": entries.T})["a"].tolist() == [0b11000010, 0b10000000]


def test_packed_bits_of_another_shape_or_layer_are_refused() -> None:
    packed = pack({"a": torch.ones(3, 3, dtype=torch.bool)})
    for shape, needed in (((2, 4), 1), ((3, 6), 3)):
        with pytest.raises(ValueError, match=f"bytes of a=2 is not allowed: expected {needed} for"):
            unpack(packed, {"a": shape})
    with pytest.raises(ValueError, match=r"packed layers=\['a'\] is not allowed: expected \['b'\]"):
        unpack(packed, {"b": (3, 3)})


def example() -> dict[str, Tensor]:
    """Two layers, out of the order of their names."""
    a = torch.tensor([[1, 0, 1], [1, 0, 0], [0, 0, 1]], dtype=torch.bool)
    return {"b.weight": torch.ones(2, 1, 2, dtype=torch.bool), "a": a}


def test_the_id_is_the_hash_of_names_shapes_and_bits_in_the_order_of_names() -> None:
    written = b'["a", 3, 3]' + b"\xb0\x80" + b'["b.weight", 2, 1, 2]' + b"\xf0"
    assert mask_id(example()) == hashlib.sha256(written).hexdigest()[:12]
    assert mask_id(dict(reversed(example().items()))) == mask_id(example())


def test_masks_that_differ_have_ids_that_differ() -> None:
    a, b = example()["a"], example()["b.weight"]
    others = [
        {"a": a},
        {"a": a, "c": b},
        {"a": a, "b.weight": b.view(4, 1)},
        {"a": a, "b.weight": ~b},
        {"a": a.T, "b.weight": b},
    ]
    assert len({mask_id(mask) for mask in [example(), *others]}) == 6


def test_other_processes_draw_the_same_masks() -> None:
    code = "import sys; sys.path[:0] = ['.', 'tests/tasks/training']\nfrom test_masks import ids\nprint(ids())"
    for seed in ("1", "2"):
        found = subprocess.run(
            [sys.executable, "-c", code], env={"PYTHONHASHSEED": seed}, capture_output=True, text=True, check=True
        )
        assert found.stdout.strip() == ids()


def ids() -> str:
    """The ids of a mask made and drawn in every way."""
    weights = distinct()
    mask = magnitude(weights, 0.1)
    made = [mask, random_like(mask, 1), magnitude(shuffled(weights, 1), 0.1), magnitude(redrawn(weights, 1), 0.5)]
    return " ".join(mask_id(each) for each in made)
