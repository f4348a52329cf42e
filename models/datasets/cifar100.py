"""CIFAR-100, the training set with its fine labels (DATA 3)."""

from collections.abc import Mapping
from pathlib import Path

from specdyn.models.datasets.base import Dataset, Decoded, RemoteFile
from specdyn.models.datasets.decoders.cifar import read_cifar_binary

ARCHIVE = RemoteFile(
    url="https://www.cs.toronto.edu/~kriz/cifar-100-binary.tar.gz",
    md5="03b5dce01913d631647c71ecec9e9cb8",
    roughly=168_500_000,
)


def decode(paths: Mapping[str, Path]) -> Decoded:
    """Images and fine labels in the order of the file."""
    image, label = read_cifar_binary(paths[ARCHIVE.name], classes=100)
    return {"image": image, "label": label}, {}


DATASETS = {
    "full": Dataset(
        name="cifar100",
        variant="full",
        kind="images",
        title="CIFAR-100, 50,000 training images",
        files=(ARCHIVE,),
        decode=decode,
        params={"classes": 100, "shape": (50_000, 3, 32, 32), "per_class": 500},
        licence="no formal licence stated",
        attribution="A. Krizhevsky, Learning Multiple Layers of Features from Tiny Images, 2009",
    )
}
