"""Mel features of speech as published: no logarithm, standardised per utterance and band (METHOD 1.4).

Axes: T samples, F frequencies, M mel bands, S frames of the spectrogram, G groups of frames.
"""

from functools import cache

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from specdyn.models.datasets.decoders.sound import BANDS, GROUP, HOP, SAMPLE_RATE, SHORTEST, WINDOW

LEAST_STD = 1e-12
"""Deviation below which a band counts as constant; 16-bit sound that varies in its last bit has about 1e-9."""


@cache
def filterbank() -> Tensor:
    """Triangles spaced evenly on the HTK mel scale from 0 Hz to half the sample rate, float32 (F, M).

    Slaney's normalisation divides each by half its width in Hz.
    """
    top = 2595 * np.log10(1 + SAMPLE_RATE / 2 / 700)
    corner = 700 * (10 ** (np.linspace(0, top, BANDS + 2) / 2595) - 1)
    lower, centre, upper = corner[:-2], corner[1:-1], corner[2:]
    frequency = np.linspace(0, SAMPLE_RATE / 2, WINDOW // 2 + 1)[:, None]
    triangle = np.minimum((frequency - lower) / (centre - lower), (upper - frequency) / (upper - centre))
    return torch.from_numpy(np.maximum(triangle, 0) * 2 / (upper - lower)).float()


def mel_spectrogram(wave_T: Tensor) -> Tensor:
    """Power in each mel band, float32 (M, S) with S = 1 + T // 160, of mono sound at 16 kHz.

    Windows of 400 samples (periodic Hann) are centred on every 160th sample, with reflection padding at the ends.
    ValueError if there are fewer than the 201 samples that this needs.
    """
    if wave_T.ndim != 1 or len(wave_T) <= WINDOW // 2:
        raise ValueError(
            f"expected mono sound of more than {WINDOW // 2} samples, to be reflected at its ends, "
            f"found shape {tuple(wave_T.shape)}"
        )
    spectrum = torch.stft(
        wave_T,
        n_fft=WINDOW,
        hop_length=HOP,
        window=torch.hann_window(WINDOW, periodic=True),
        center=True,
        pad_mode="reflect",
        return_complex=True,
    )
    return filterbank().T @ spectrum.abs().square()


def mel_features(wave_T: npt.NDArray[np.float32]) -> tuple[npt.NDArray[np.float32], int]:
    """Feature frames (G, M), float32, and the number of constant bands among the M.

    Each band is standardised over the utterance (unbiased deviation), then non-overlapping groups of 3 frames are
    averaged and the remainder dropped: 33.3 frames per second. A constant band, such as digital silence, becomes 0;
    the paper's code produces NaN. ValueError if there are fewer than 320 samples, too few for one group.
    """
    if len(wave_T) < SHORTEST:
        raise ValueError(f"expected {SHORTEST} samples or more, enough for {GROUP} frames, found {len(wave_T)}")
    band_MS = mel_spectrogram(torch.from_numpy(wave_T))
    deviation_M = band_MS.std(1, keepdim=True)
    standard_MS = (band_MS - band_MS.mean(1, keepdim=True)) / deviation_M.clamp(min=LEAST_STD)
    groups = standard_MS.shape[1] // GROUP
    frames = standard_MS[:, : groups * GROUP].reshape(BANDS, groups, GROUP).mean(2).T
    return frames.contiguous().numpy(), int((deviation_M < LEAST_STD).sum())
