"""Mel features equal those of the definition, written out in float64 (METHOD 1.4)."""

import numpy as np
import numpy.typing as npt
import pytest
import torch

from reference.mel import assert_near, naive_features, naive_spectrogram, triangles
from specdyn.models.datasets.decoders.mel import filterbank, mel_features, mel_spectrogram


def sound(samples: int, seed: int = 0) -> npt.NDArray[np.float32]:
    """Noise that grows louder, and a tone."""
    random = np.random.default_rng(seed)
    time = np.arange(samples) / 16_000
    return (random.normal(size=samples) * (0.01 + time) + 0.1 * np.sin(2 * np.pi * 1234 * time)).astype(np.float32)


def test_the_filters_are_triangles_on_the_mel_scale() -> None:
    bank = filterbank()
    assert (bank.shape, bank.dtype) == ((201, 40), torch.float32)
    np.testing.assert_allclose(bank.numpy(), triangles(), rtol=6e-8, atol=1e-12)  # made in float64, rounded once
    assert (bank.max(0).values > 0).all()


@pytest.mark.parametrize("samples", [201, 320, 1_600, 4_001, 4_799])
def test_the_spectrogram_is_the_sum_of_its_definition(samples: int) -> None:
    wave = sound(samples)
    bands = mel_spectrogram(torch.from_numpy(wave)).numpy()
    assert bands.shape == (40, 1 + samples // 160)
    assert_near(bands, *naive_spectrogram(wave.astype(float)))


@pytest.mark.parametrize(("samples", "groups"), [(320, 1), (799, 1), (800, 2), (4_000, 8), (16_000, 33)])
def test_features_are_standardised_and_averaged_over_three_frames(samples: int, groups: int) -> None:
    wave = sound(samples)
    features, constant = mel_features(wave)
    assert (features.shape, features.dtype, constant) == ((groups, 40), np.float32, 0)
    assert_near(features, *naive_features(wave.astype(float)))


def test_features_do_not_depend_on_loudness() -> None:
    wave = sound(8_000)
    np.testing.assert_array_equal(mel_features(wave)[0], mel_features(wave / 64)[0])  # a power of two rounds nothing


def test_bands_of_the_last_bit_are_not_mistaken_for_constant() -> None:
    bits = np.random.default_rng(1).integers(-1, 2, 16_000) / np.float32(2**15)
    features, constant = mel_features(bits.astype(np.float32))
    assert constant == 0
    assert_near(features, *naive_features(bits.astype(float)))


def test_silence_becomes_zeros_and_is_counted() -> None:
    features, constant = mel_features(np.zeros(16_000, np.float32))
    assert constant == 40
    np.testing.assert_array_equal(features, np.zeros((33, 40), np.float32))


@pytest.mark.parametrize("samples", [0, 1, 200, 319])
def test_sound_too_short_for_a_group_is_refused(samples: int) -> None:
    with pytest.raises(ValueError, match=rf"^expected 320 samples or more, enough for 3 frames, found {samples}$"):
        mel_features(np.zeros(samples, np.float32))


@pytest.mark.parametrize("shape", [(0,), (200,), (2, 400)])
def test_sound_that_cannot_be_reflected_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"^expected mono sound of more than 200 samples, .* found shape \("):
        mel_spectrogram(torch.zeros(shape))
