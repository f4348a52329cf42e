"""How sound becomes frames of features: rates and lengths (METHOD 1.4)."""

SAMPLE_RATE = 16_000
"""in Hz"""
WINDOW = 400
"""in samples, as is the length of the Fourier transform"""
HOP = 160
"""in samples"""
BANDS = 40
GROUP = 3
"""Frames that one feature frame is the mean of."""
SHORTEST = (GROUP - 1) * HOP
"""Samples that give one group of frames; more than the half window that reflect padding needs."""
