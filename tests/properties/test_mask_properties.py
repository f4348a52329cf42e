"""What holds for the masks of any weights."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import assume, event, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from torch import Tensor

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
    unpack,
)

some = settings(max_examples=60, deadline=None)
names = st.text(min_size=1, max_size=4)
shapes = array_shapes(min_dims=2, max_dims=4, min_side=1, max_side=6)
entries = st.floats(-100, 100, width=32, allow_subnormal=False) | st.sampled_from([0.0, -0.0, 1.0, -1.0])
alike = shapes.flatmap(lambda shape: arrays(np.float32, shape, elements=entries)).map(torch.from_numpy)
gaussian = st.builds(
    lambda shape, seed, digits: torch.tensor(np.random.default_rng(seed).normal(size=shape).round(digits)).float(),
    shapes,
    st.integers(0, 1000),
    st.sampled_from([1, 7]),  # with ties and without
)
weight = gaussian | alike
layers = st.dictionaries(names, weight, min_size=1, max_size=3)
any_shape = array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=7)
masks = st.dictionaries(names, any_shape.flatmap(lambda shape: arrays(bool, shape)).map(torch.from_numpy))
masked_layers = st.dictionaries(names, shapes.flatmap(lambda shape: arrays(bool, shape)).map(torch.from_numpy))
fractions = st.floats(0.01, 1, exclude_max=True)
seeds = st.integers(0, 1000)


def random_mask(weights: dict[str, Tensor], seed: int, density: float) -> dict[str, Tensor]:
    random = np.random.default_rng(seed)
    return {name: torch.from_numpy(random.random(w.shape) < density) for name, w in weights.items()}


def oracle(weights: dict[str, Tensor], among: dict[str, Tensor], density: float) -> dict[str, np.ndarray]:
    """The published rule in numpy, without any refusal."""
    total = sum(w.numel() for w in weights.values())
    ascending = np.sort(np.concatenate([np.abs(w.numpy()[among[name].numpy()]) for name, w in weights.items()]))
    place = int(density * total)
    threshold = ascending[-place] if place else np.inf
    return {name: (np.abs(w.numpy()) > threshold) & among[name].numpy() for name, w in weights.items()}


def follows_or_refuses(expected: dict[str, np.ndarray], make: Callable[[], dict[str, Tensor]]) -> None:
    """What is made is what is expected, and refused where that has a layer without weights."""
    possible = all(kept.any() for kept in expected.values())
    event("made" if possible else "refused")
    if possible:
        mask = make()
        assert list(mask) == list(expected)
        assert all(np.array_equal(kept.numpy(), expected[name]) for name, kept in mask.items())
    else:
        with pytest.raises(ValueError, match="raise the density"):
            make()


@some
@given(layers, fractions)
def test_a_magnitude_mask_follows_the_rule_or_is_refused(weights: dict[str, Tensor], density: float) -> None:
    everything = {name: torch.ones(w.shape, dtype=torch.bool) for name, w in weights.items()}
    follows_or_refuses(oracle(weights, everything, density), lambda: magnitude(weights, density))


@some
@given(layers, fractions, fractions, seeds)
def test_going_further_follows_the_rule_among_the_kept_weights(
    weights: dict[str, Tensor], kept: float, share: float, seed: int
) -> None:
    mask = random_mask(weights, seed, kept)
    assume(any(each.any() for each in mask.values()))
    # a part of the mask's own density
    density = 0.99 * share * sum(int(m.sum()) for m in mask.values()) / sum(m.numel() for m in mask.values())
    follows_or_refuses(oracle(weights, mask, density), lambda: further(mask, weights, density))


@some
@given(masked_layers, seeds)
def test_a_random_mask_keeps_as_many_weights_of_each_layer(mask: dict[str, Tensor], seed: int) -> None:
    drawn = random_like(mask, seed)
    assert {name: (kept.shape, int(kept.sum())) for name, kept in drawn.items()} == {
        name: (kept.shape, int(kept.sum())) for name, kept in mask.items()
    }


@some
@given(layers, seeds, fractions)
def test_what_is_masked_is_zero_and_the_rest_as_it_was(weights: dict[str, Tensor], seed: int, density: float) -> None:
    mask = random_mask(weights, seed, density)
    masked = apply(weights, mask)
    energy = kept_energy(weights, mask)
    for name, w in weights.items():
        expected = np.where(mask[name].numpy(), w.numpy(), np.float32(0))
        assert masked[name].numpy().tobytes() == expected.tobytes()
        total, kept = (np.square(part.astype(np.float64)).sum() for part in (w.numpy(), expected))
        np.testing.assert_allclose(energy[name], kept / total if total else np.nan, rtol=1e-12)


@some
@given(masks)
def test_packed_masks_come_back_in_their_shapes(mask: dict[str, Tensor]) -> None:
    packed = pack(mask)
    for name, kept in mask.items():
        assert packed[name].shape == (-(-kept.numel() // 8),)
    found = unpack(packed, {name: tuple(kept.shape) for name, kept in mask.items()})
    assert list(found) == list(mask)
    assert all(found[name].dtype == torch.bool and torch.equal(found[name], mask[name]) for name in mask)
    assert mask_id(found) == mask_id(mask)


@some
@given(masked_layers, st.data())
def test_one_entry_more_or_less_is_another_mask(mask: dict[str, Tensor], data: st.DataObject) -> None:
    assume(mask)
    name = data.draw(st.sampled_from(sorted(mask)))
    changed = {each: kept.clone() for each, kept in mask.items()}
    flat = changed[name].view(-1)
    i = data.draw(st.integers(0, len(flat) - 1))
    flat[i] = ~flat[i]
    assert mask_id(changed) != mask_id(mask)
    larger, smaller = sorted((int(mask[name].sum()), int(flat.sum())), reverse=True)
    assert overlap(mask, changed)[name] == smaller / larger
    np.testing.assert_allclose(abs(densities(changed)[name] - densities(mask)[name]), 1 / len(flat), rtol=1e-12)
