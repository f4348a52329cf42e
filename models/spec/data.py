"""Data: the possible values of a spec's `data`. models/datasets/decoders turns arrays into examples.

`train_examples` counts examples from the shapes of the arrays; `read` returns an array whose values it needs.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from specdyn.models.spec.checks import require, require_counts, require_declared_types, require_known

Shapes = Mapping[str, tuple[int, ...]]
Read = Callable[[str], Any]

LABELS = ("true", "random")


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageSet:
    """Properties of an image set: its classes, its shape, and the normalisation of its pixels."""

    classes: int
    channels: int
    size: int
    """Height and width."""
    mean: tuple[float, ...]
    """Mean of each channel, for pixels from 0 to 1."""
    std: tuple[float, ...]


CIFAR10 = ImageSet(classes=10, channels=3, size=32, mean=(0.4914, 0.4822, 0.4465), std=(0.2470, 0.2435, 0.2616))
IMAGE_SETS = {
    "cifar10": CIFAR10,
    "cifar100": ImageSet(classes=100, channels=3, size=32, mean=(0.5071, 0.4866, 0.4409), std=(0.2673, 0.2564, 0.2762)),
    "mnist": ImageSet(classes=10, channels=1, size=28, mean=(0.1307,), std=(0.3081,)),
    "fashion_mnist": ImageSet(classes=10, channels=1, size=28, mean=(0.2860,), std=(0.3530,)),
    # They stand in for CIFAR-10, so they use its normalisation.
    "photos": ImageSet(classes=9, channels=3, size=32, mean=CIFAR10.mean, std=CIFAR10.std),
}
"""Name -> set, with the constants of METHOD 1.2 and 1.3."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Images:
    """A set of images, its labels, and the share used for training; the split is the same for every seed."""

    dataset: str = "cifar10"
    """Name of a data set; `specdyn data list` has them."""
    variant: str = "full"
    """Which variant of the data set."""
    labels: str = "true"
    """`random`: all labels are permuted before the split, so validation labels are random too."""
    noise: float = 0.0
    """Fraction of the labels redrawn from all classes."""
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

    def kept(self, images: int) -> int:
        """The number of training images used out of `images`; ValueError if it is zero."""
        kept = int(images * self.train_fraction)
        least = f"{1 / images:.3g} or more, for one of {images} images"
        require(kept > 0, "train_fraction", self.train_fraction, least)
        return kept

    def train_examples(self, shapes: Shapes, read: Read) -> int:
        """The images of the set's own split, or 9 of 10 images, reduced by `train_fraction`."""
        own = "validation" in shapes
        return self.kept(int((~read("validation")).sum()) if own else shapes["label"][0] * 9 // 10)


@dataclass(frozen=True, slots=True, kw_only=True)
class Text:
    """A tokenised corpus: the size of its vocabulary and the length of its blocks."""

    dataset: str = "wikitext103"
    """Name of a data set; `specdyn data list` has them."""
    variant: str = "full"
    """Which variant of the data set."""
    vocabulary: int = 50_277
    """Rows of the embedding: the largest id of the tokenizer plus one. The published network has 50,254, without
    the ids of added white space."""
    length: int = 2048
    """Context length in tokens; blocks hold one more."""

    def __post_init__(self) -> None:
        require_declared_types(self)
        require_counts(self, "vocabulary", "length")

    def train_examples(self, shapes: Shapes, read: Read) -> int:
        """The number of training blocks."""
        return shapes["train/chunk"][0]


@dataclass(frozen=True, slots=True, kw_only=True)
class Recordings:
    """A set of utterances and the number of symbols that the network distinguishes."""

    dataset: str = "librispeech"
    """Name of a data set; `specdyn data list` has them."""
    variant: str = "full"
    """Which variant of the data set."""
    outputs: int = 30
    """Output symbols: blank, unknown and characters. The published network has 29 for 30; 29 loads its checkpoints."""

    def __post_init__(self) -> None:
        require_declared_types(self)
        require(self.outputs >= 3, "outputs", self.outputs, "3 or more: blank, unknown and a character")

    def train_examples(self, shapes: Shapes, read: Read) -> int:
        """The number of training utterances."""
        return shapes["train/frame_offset"][0] - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class ModularAddition:
    """The addition table of a prime and how it is split; the split depends on the run's seed."""

    prime: int = 113
    """The modulus p; numbers from 0 to p - 1 are added."""
    train_fraction: float = 0.3
    """Share of all pairs used for training."""
    mirrored_together: bool = False
    """Keep (i, j) and (j, i) on the same side of the split, so that commutativity leaks no answers."""

    def __post_init__(self) -> None:
        require_declared_types(self)
        is_prime = self.prime > 1 and all(self.prime % n for n in range(2, int(self.prime**0.5) + 1))
        require(is_prime, "prime", self.prime, "a prime number")
        require(0 < self.train_fraction < 1, "train_fraction", self.train_fraction, "a number between 0 and 1")
        pairs = self.prime * (self.prime + 1) // 2 if self.mirrored_together else self.prime**2
        least = f"{1 / pairs:.3g} or more, for one of {pairs} pairs to train on"
        require(int(self.train_fraction * pairs) >= 1, "train_fraction", self.train_fraction, least)
