"""Images for classification and generation: the data spec, labels as they are or at random, the published split.

Shapes: N images, C channels, H height, W width.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from specdyn.models.datasets.decoders.examples import Examples
from specdyn.models.datasets.decoders.labels import Indices, noisy_labels, permuted_labels, random_split, require_labels
from specdyn.models.spec.checks import require, require_declared_types, require_known

LABELS = ("true", "random")


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageSet:
    """What is known of a set before it is read: its classes, its shape, and how its pixels are normalised."""

    classes: int
    channels: int
    size: int
    """Height and width."""
    mean: tuple[float, ...]
    """Of each channel, for pixels from 0 to 1."""
    std: tuple[float, ...]


CIFAR10 = ImageSet(classes=10, channels=3, size=32, mean=(0.4914, 0.4822, 0.4465), std=(0.2470, 0.2435, 0.2616))
IMAGE_SETS = {
    "cifar10": CIFAR10,
    "cifar100": ImageSet(classes=100, channels=3, size=32, mean=(0.5071, 0.4866, 0.4409), std=(0.2673, 0.2564, 0.2762)),
    "mnist": ImageSet(classes=10, channels=1, size=28, mean=(0.1307,), std=(0.3081,)),
    "fashion_mnist": ImageSet(classes=10, channels=1, size=28, mean=(0.2860,), std=(0.3530,)),
    # They stand in for CIFAR-10, so they are normalised as it is.
    "photos": ImageSet(classes=9, channels=3, size=32, mean=CIFAR10.mean, std=CIFAR10.std),
}
"""Name -> set, with the constants of METHOD 1.2 and 1.3."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Images:
    """A set of images, its labels, and how much of it is trained on; the split is the same for every seed."""

    dataset: str = "cifar10"
    variant: str = "full"
    labels: str = "true"
    """`random`: all labels permuted before the split, so that validation labels are random too."""
    noise: float = 0.0
    """Fraction of the labels drawn anew from all classes."""
    train_fraction: float = 1.0
    """Share of the training images that is used, the first in the split's order."""

    def __post_init__(self) -> None:
        require_declared_types(self)
        require_known("set of images", self.dataset, IMAGE_SETS)
        require_known("kind of labels", self.labels, LABELS)
        require(0 <= self.noise <= 1, "noise", self.noise, "a number from 0 to 1")
        require(0 < self.train_fraction <= 1, "train_fraction", self.train_fraction, "a number above 0, at most 1")

    @property
    def about(self) -> ImageSet:
        """Classes, shape and normalisation of the set."""
        return IMAGE_SETS[self.dataset]


def image_examples(data: Images, arrays: Mapping[str, np.ndarray]) -> dict[str, Examples]:
    """Splits `train` and `val` of inputs float32 (n, C, H, W), normalised per channel, and targets int64 (n,).

    `arrays` holds `image` (N, C, H, W) uint8 and `label` (N,); where it holds `validation` (N,) bool that is the
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
    train, val = _split(arrays)
    kept = int(len(train) * data.train_fraction)
    require(
        kept > 0, "train_fraction", data.train_fraction, f"{1 / len(train):.3g} or more, for one of {len(train)} images"
    )
    return {name: _normalised(about, image[of], label[of]) for name, of in (("train", train[:kept]), ("val", val))}


def _split(arrays: Mapping[str, np.ndarray]) -> tuple[Indices, Indices]:
    """Indices of the training and the validation images, in the order they are used in."""
    if "validation" in arrays:
        return np.flatnonzero(~arrays["validation"]), np.flatnonzero(arrays["validation"])
    images = len(arrays["label"])
    train = images * 9 // 10
    return random_split(train, images - train)


def _normalised(about: ImageSet, image: npt.NDArray[np.uint8], label: Indices) -> Examples:
    mean, std = (torch.tensor(of_channel)[:, None, None] for of_channel in (about.mean, about.std))
    pixels = torch.from_numpy(image).float().div_(255)
    return Examples(pixels.sub_(mean).div_(std), torch.from_numpy(label))
