"""Rates and lengths by which sound becomes frames of features (METHOD 1.4)."""

SAMPLE_RATE = 16_000
"""in Hz"""
WINDOW = 400
"""in samples; also the length of the Fourier transform"""
HOP = 160
"""in samples"""
BANDS = 40
GROUP = 3
"""Frames averaged into one feature frame."""
SHORTEST = (GROUP - 1) * HOP
"""Samples for one group of frames; more than the half window needed for reflection padding."""
