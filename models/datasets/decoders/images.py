"""Images for classification and generation: true, noisy or random labels, and the published split.

Shapes: N images, C channels, H height, W width.
"""

from collections.abc import Mapping

import numpy as np
import torch

from specdyn.models.datasets.decoders.examples import Examples
from specdyn.models.datasets.decoders.labels import Indices, noisy_labels, permuted_labels, random_split, require_labels
from specdyn.models.spec.checks import require
from specdyn.models.spec.data import Images


def image_examples(data: Images, arrays: Mapping[str, np.ndarray]) -> dict[str, Examples]:
    """Splits `train` and `val` of inputs float32 (n, C, H, W), normalised per channel, and targets int64 (n,).

    `arrays` holds `image` (N, C, H, W) uint8 and `label` (N,); if it holds `validation` (N,) bool, that is the
    split, else 9 of 10 images are trained on in the published order (METHOD 0.1, 1.2). Labels are permuted or made
    noisy before the split. ValueError for images or labels of another set, and for a fraction that leaves no image.
    """
    about, image, label = data.about, arrays["image"], arrays["label"].astype(np.int64)
    expected = (len(label), about.channels, about.size, about.size)
    require(image.shape == expected, f"shape of image in {data.dataset}", image.shape, f"{expected}")
    require_labels(label, about.classes, data.dataset)
    if data.labels == "random":
        label = permuted_labels(label)
    if data.noise:
        label = noisy_labels(label, data.noise, about.classes)
    if "validation" in arrays:
        train, val = np.flatnonzero(~arrays["validation"]), np.flatnonzero(arrays["validation"])
    else:
        nine_tenths = len(label) * 9 // 10
        train, val = random_split(nine_tenths, len(label) - nine_tenths)
    mean, std = (torch.tensor(of_channel)[:, None, None] for of_channel in (about.mean, about.std))

    def examples(chosen: Indices) -> Examples:
        pixels = torch.from_numpy(image[chosen]).float().div_(255)
        return Examples(pixels.sub_(mean).div_(std), torch.from_numpy(label[chosen]))

    return {"train": examples(train[: data.kept(len(train))]), "val": examples(val)}
