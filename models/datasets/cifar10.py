"""CIFAR-10, only the training set, as in the paper (METHOD 1.2, DATA 3)."""

from collections.abc import Mapping
from pathlib import Path

from specdyn.models.datasets.base import Dataset, Decoded, RemoteFile
from specdyn.models.datasets.decoders.cifar import read_cifar_binary

ARCHIVE = RemoteFile(
    url="https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",
    bytes=170_052_171,
    md5="c32a1d4ab5d03f1284b67883e8d87530",
    sha256="c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
)


def decode(paths: Mapping[str, Path]) -> Decoded:
    """Images and labels in the order of the five batches."""
    image, label = read_cifar_binary(paths[ARCHIVE.name], classes=10)
    return {"image": image, "label": label}, {}


DATASETS = {
    "full": Dataset(
        name="cifar10",
        variant="full",
        kind="images",
        title="CIFAR-10, 50,000 training images",
        files=(ARCHIVE,),
        decode=decode,
        params={"classes": 10, "shape": (50_000, 3, 32, 32), "per_class": 5_000},
        licence="no formal licence stated",
        attribution="A. Krizhevsky, Learning Multiple Layers of Features from Tiny Images, 2009",
        about="The data set photos has crops of the same shape that come with the package.",
    )
}
