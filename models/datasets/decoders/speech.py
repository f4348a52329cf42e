"""Speech with transcripts: ragged arrays padded to one length (METHOD 1.4).

Shapes: n utterances, T frames of the longest, F features per frame, L characters of the longest transcript.
"""

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from specdyn.models.datasets.decoders.examples import Examples
from specdyn.models.spec.checks import require
from specdyn.models.spec.data import Recordings

BLANK = 0
SPACE = 2
"""The first character in sorted order, after blank and unknown."""
FEATURES = 40
PADDING = -1
"""Fills the targets of shorter transcripts."""


def speech_examples(data: Recordings, arrays: Mapping[str, np.ndarray]) -> dict[str, Examples]:
    """Splits `train` and `val` of inputs float32 (n, T, F), targets int64 (n, L) and lengths int64 (n,).

    For each split `arrays` holds, after its name and a slash, `frames` (all frames, F) with `frame_offset` (n + 1,),
    and `text` (all characters,) with `text_offset` (n + 1,). Inputs are padded with 0, targets with -1. ValueError
    for a symbol without an output of the network, which CTC would look up out of range, and for other features.
    """
    return {split: _split(data, {name: arrays[f"{split}/{name}"] for name in ARRAYS}, split) for split in SPLITS}


SPLITS = ("train", "val")
ARRAYS = ("frames", "frame_offset", "text", "text_offset")


def _split(data: Recordings, arrays: Mapping[str, np.ndarray], split: str) -> Examples:
    frames, text = arrays["frames"], arrays["text"]
    require(frames.shape[1] == FEATURES, f"features of a frame in {split}", frames.shape[1], f"{FEATURES}")
    largest = int(text.max())
    if largest >= data.outputs:
        raise ValueError(
            f"{data.dataset}/{data.variant}, split {split}: a transcript has symbol {largest}, the network has "
            f"outputs={data.outputs}, which reach to {data.outputs - 1}; set outputs to the size of the vocabulary"
        )
    inputs = padded(torch.from_numpy(frames.astype(np.float32)), arrays["frame_offset"], 0)
    targets = padded(torch.from_numpy(text.astype(np.int64)), arrays["text_offset"], PADDING)
    return Examples(inputs, targets, torch.from_numpy(np.diff(arrays["frame_offset"]).astype(np.int64)))


def padded(values: Tensor, offset: npt.NDArray[np.int64], filler: float) -> Tensor:
    """The ragged rows `values[offset[i]:offset[i + 1]]` as one tensor (n, longest, ...), filled at their ends."""
    parts = values.split(np.diff(offset).tolist())
    return torch.nn.utils.rnn.pad_sequence(list(parts), batch_first=True, padding_value=filler)
