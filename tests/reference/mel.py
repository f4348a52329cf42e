"""Mel features written out from their definition in float64 (METHOD 1.4), and how far float32 may stray from them.

Axes: T samples, S frames of the spectrogram, F frequencies, M mel bands, G groups of frames.
"""

import importlib
import math
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import numpy.typing as npt

Doubles = npt.NDArray[np.float64]

UNIT = 2.0**-24
"""Rounding error of one float32 operation, relative to its result."""
FOURIER = (1 + 4 * math.sqrt(2)) * math.log2(400) + 1
"""Roundings that a coefficient of a fast Fourier transform of 400 windowed samples holds, each of the frame's norm.

Higham, Accuracy and Stability of Numerical Algorithms, theorem 24.2: (1 + 4 sqrt 2) log2 n units of the norm over all
coefficients; taken as spread evenly over them. One more for the window.
"""


def hertz(mel: float) -> float:
    return 700 * (10 ** (mel / 2595) - 1)


def triangles() -> Doubles:
    """Filter by filter, bin by bin (F, M): up from the corner before to 1 at its own and down to the next, area 1."""
    top = 2595 * math.log10(1 + 8000 / 700)
    corners = [hertz(top * k / 41) for k in range(42)]
    bank = np.zeros((201, 40))
    for band in range(40):
        low, mid, high = corners[band : band + 3]
        for bin_ in range(201):
            frequency = 40.0 * bin_
            if low < frequency <= mid:
                bank[bin_, band] = (frequency - low) / (mid - low)
            elif mid < frequency < high:
                bank[bin_, band] = (high - frequency) / (high - mid)
        bank[:, band] *= 2 / (high - low)
    return bank


def windowed(wave_T: Doubles) -> Doubles:
    """The frames (S, 400), reflected at the ends and windowed."""
    padded = np.concatenate([wave_T[200:0:-1], wave_T, wave_T[-2:-202:-1]])
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(400) / 400)
    return np.stack([padded[start : start + 400] * window for start in range(0, len(wave_T) + 1, 160)])


def naive_spectrogram(wave_T: Doubles) -> tuple[Doubles, Doubles]:
    """Power in the bands (M, S) by a Fourier sum of every frame, and by how much float32 may miss it.

    A band is a sum of squares |X|^2 of coefficients that err by |dX|, so it errs by 2 |X| |dX| + |dX|^2; squaring, the
    filter and the sum over its frequencies add a unit each.
    """
    frames = windowed(wave_T)
    waves = np.exp(-2j * np.pi * np.outer(np.arange(400), np.arange(201)) / 400)
    sizes, bank = np.abs(frames @ waves), triangles()
    moved = FOURIER * UNIT * np.linalg.norm(frames, axis=1, keepdims=True)
    rounded = (3 + (bank > 0).sum(0).max()) * UNIT
    bands = (sizes**2 @ bank).T
    return bands, ((2 * sizes * moved + moved**2) @ bank).T + rounded * bands


def naive_features(wave_T: Doubles) -> tuple[Doubles, Doubles]:
    """Features (G, M), and by how much float32 may miss them.

    z = (b - mean) / std of a band whose values err by db errs by (|db| + mean |db|) / std + |z| rms(db) / std, and by
    four units of (|b| + mean) / std and of z for the sums and the division.
    """
    bands, errors = naive_spectrogram(wave_T)
    mean = bands.mean(1, keepdims=True)
    std = np.sqrt(((bands - mean) ** 2).sum(1, keepdims=True) / (bands.shape[1] - 1))
    standard = (bands - mean) / std
    spread = np.sqrt((errors**2).sum(1, keepdims=True) / (bands.shape[1] - 1))
    missed = (errors + errors.mean(1, keepdims=True) + np.abs(standard) * spread) / std
    missed += 4 * UNIT * ((bands + mean) / std + np.abs(standard))
    return grouped(standard), grouped(missed)


def of_recordings(paths: Iterable[Path]) -> tuple[Doubles, Doubles]:
    """`naive_features` of files of sound, one after another; needs soundfile."""
    read = importlib.import_module("soundfile").read
    of_each = [naive_features(read(path)[0]) for path in paths]
    return np.concatenate([exact for exact, _ in of_each]), np.concatenate([missed for _, missed in of_each])


def grouped(bands_MS: Doubles) -> Doubles:
    """The mean of every three frames (G, M)."""
    return np.array([bands_MS[:, 3 * g : 3 * g + 3].mean(1) for g in range(bands_MS.shape[1] // 3)])


def assert_near(found: npt.NDArray[np.float32], exact: Doubles, missed: Doubles) -> None:
    """Each entry lies as near to the exact one as float32 must come."""
    assert found.shape == exact.shape
    np.testing.assert_array_less(np.abs(found - exact), missed)
