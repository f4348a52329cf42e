"""Fashion-MNIST, the training set: the shape of MNIST, and a system package on Debian (DATA 2.1, 3)."""

from collections.abc import Mapping
from pathlib import Path

from specdyn.models.datasets.base import Dataset, Decoded, RemoteFile
from specdyn.models.datasets.decoders.idx import read_labelled_images

IMAGES, LABELS = "train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz"
SOURCE = "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com"
SYSTEM = "/usr/share/datasets/fashion-mnist"
SHA256 = {
    IMAGES: "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
    LABELS: "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
}
"""Hashes of the decompressed bytes, since Debian compresses them again."""
ROUGHLY = {IMAGES: 26_421_880, LABELS: 29_515}


def decode(paths: Mapping[str, Path]) -> Decoded:
    """Images and labels in the order of the files."""
    image, label = read_labelled_images(paths[IMAGES], paths[LABELS])
    return {"image": image, "label": label}, {}


DATASETS = {
    "full": Dataset(
        name="fashion_mnist",
        variant="full",
        kind="images",
        title="Fashion-MNIST, 60,000 training images",
        files=tuple(
            RemoteFile(
                url=f"{SOURCE}/{name}",
                sha256=sha256,
                of="decompressed",
                roughly=ROUGHLY[name],
                system=f"{SYSTEM}/{name}",
            )
            for name, sha256 in SHA256.items()
        ),
        decode=decode,
        params={"classes": 10, "shape": (60_000, 1, 28, 28), "per_class": 6_000},
        licence="MIT",
        attribution="H. Xiao, K. Rasul and R. Vollgraf (Zalando), Fashion-MNIST, 2017",
        about="Without a download on Debian: apt install dataset-fashion-mnist.",
    )
}
