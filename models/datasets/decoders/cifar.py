"""CIFAR-10 and CIFAR-100 in their binary form, from the archive or from single files (METHOD 1.2, DATA 3)."""

import gzip
import tarfile
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from types import MappingProxyType
from typing import Literal

import numpy as np
import numpy.typing as npt

from specdyn.models.datasets.decoders.labels import Indices, require_labels
from specdyn.models.spec.checks import require

SHAPE = (3, 32, 32)
PIXELS = 3 * 32 * 32
LABEL_BYTES: Mapping[int, int] = MappingProxyType({10: 1, 100: 2})
"""Classes -> bytes before the pixels of a record; the last of them is the label, CIFAR-100 has the coarse one first."""
COARSE_CLASSES = 20
MEMBERS: Mapping[tuple[int, str], tuple[str, ...]] = MappingProxyType(
    {
        (10, "train"): tuple(f"data_batch_{n}.bin" for n in range(1, 6)),
        (10, "test"): ("test_batch.bin",),
        (100, "train"): ("train.bin",),
        (100, "test"): ("test.bin",),
    }
)
"""Classes and split -> names of the files in the archive, in their order."""


def _archive_files(archive: Path, names: Sequence[str]) -> list[tuple[str, bytes]]:
    """Name and content of the archive's members, in the order of `names`; writes nothing to disk."""
    contents: dict[str, bytes] = {}
    try:
        with gzip.open(archive) as unpacked, tarfile.open(fileobj=unpacked, mode="r:") as tar:
            for member in filter(tarfile.TarInfo.isfile, tar):
                stream = tar.extractfile(member)
                assert stream is not None  # it is a regular file
                contents[PurePosixPath(member.name).name] = stream.read()
            while unpacked.read(2**20):  # the checksum is at the end, after what tarfile reads
                pass
    except (tarfile.TarError, gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise ValueError(f"{archive}: the archive is damaged or cut short ({error}); fetch it again") from error
    absent = [name for name in names if name not in contents]
    if absent:
        raise ValueError(f"{archive}: expected {', '.join(absent)}, found {', '.join(contents) or 'no file'}")
    return [(f"{archive}:{name}", contents[name]) for name in names]


def _records(name: str, content: bytes, classes: int) -> tuple[npt.NDArray[np.uint8], Indices]:
    """Images and labels of one file."""
    length = LABEL_BYTES[classes] + PIXELS
    if not content or len(content) % length:
        raise ValueError(
            f"{name}: expected whole records of {length} bytes (CIFAR-{classes}), found {len(content)} bytes"
        )
    record = np.frombuffer(content, np.uint8).reshape(-1, length)
    label = record[:, LABEL_BYTES[classes] - 1]
    require_labels(label, classes, name)
    if classes == 100:
        require_labels(record[:, 0], COARSE_CLASSES, f"{name} (coarse)")
    return record[:, LABEL_BYTES[classes] :].reshape(-1, *SHAPE), label.astype(np.int64)


def read_cifar_binary(
    source: Path | Sequence[Path],
    *,
    classes: int = 10,
    split: Literal["train", "test"] = "train",
    per_class: int | None = None,
) -> tuple[npt.NDArray[np.uint8], Indices]:
    """Images (N, 3, 32, 32) uint8 and labels (N,) int64, the fine ones of CIFAR-100.

    A single path is the published `.tar.gz`, whose split is read in the order of its batches; several paths
    are `.bin` files, read in that order. `per_class` is the required count of each class: 5,000 for the whole
    training set of CIFAR-10, 500 for that of CIFAR-100. ValueError names the file and what is wrong with it.
    """
    require(classes in LABEL_BYTES, "classes", classes, "10 or 100")
    require(split in {"train", "test"}, "split", split, "'train' or 'test'")
    if isinstance(source, Path):
        files = _archive_files(source, MEMBERS[classes, split])
    else:
        require(len(source) > 0, "source", source, "an archive, or one or more files")
        files = [(str(path), path.read_bytes()) for path in source]
    parts = [_records(name, content, classes) for name, content in files]
    image, label = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    counts = np.bincount(label, minlength=classes)
    if per_class is not None and (counts != per_class).any():
        odd = int(np.flatnonzero(counts != per_class)[0])
        raise ValueError(f"{source}: expected {per_class} images of each class, found {counts[odd]} of class {odd}")
    return image, label
