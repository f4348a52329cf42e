"""IDX files, the format of MNIST and Fashion-MNIST, plain or compressed with gzip (DATA 3)."""

import hashlib
import math
import zlib
from pathlib import Path

import numpy as np
import numpy.typing as npt

from specdyn.models.datasets.decoders.labels import Indices, require_labels

Bytes = npt.NDArray[np.uint8]
UNSIGNED_BYTE = 0x08
GZIP = b"\x1f\x8b"


def _unpacked(path: Path) -> tuple[bytes, str]:
    """The decompressed bytes as far as they go, and what is wrong with the gzip stream, if anything."""
    packed = path.read_bytes()
    if not packed.startswith(GZIP):
        return packed, ""
    parts = []
    while packed:
        stream = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)
        try:
            parts.append(stream.decompress(packed))
        except zlib.error as error:
            return b"".join(parts), f"the gzip stream is damaged: {error}"
        if not stream.eof:
            return b"".join(parts), "the gzip stream is cut short"
        packed = stream.unused_data
    return b"".join(parts), ""


def decompressed_sha256(path: Path) -> str:
    """The sha256 of the decompressed bytes, which does not depend on who compressed them; hex.

    ValueError names the file if its gzip stream is damaged or cut short.
    """
    content, defect = _unpacked(path)
    if defect:
        raise ValueError(f"{path}: {defect} after {len(content)} bytes; fetch the file again")
    return hashlib.sha256(content).hexdigest()


def read_idx(path: Path) -> Bytes:
    """The array of an IDX file of unsigned bytes, whatever its number of axes; uint8, read-only.

    ValueError names the file and the expected and found bytes if the file is of another type, damaged,
    cut short or too long.
    """
    content, defect = _unpacked(path)
    reason = f" ({defect})" if defect else ""
    magic = content[:4]
    if len(magic) < 4 or magic[:3] != bytes([0, 0, UNSIGNED_BYTE]) or magic[3] == 0:
        raise ValueError(
            f"{path}: expected the first bytes 00 00 08 nn of an IDX file of unsigned bytes, "
            f"found {magic.hex(' ') or 'nothing'}{reason}"
        )
    start = 4 + 4 * magic[3]
    if len(content) < start:
        raise ValueError(f"{path}: expected a header of {start} bytes, found {len(content)} bytes in all{reason}")
    shape = np.frombuffer(content, ">u4", count=magic[3], offset=4).tolist()
    expected = start + math.prod(shape)
    if len(content) != expected or defect:
        raise ValueError(
            f"{path}: expected {expected} bytes for shape {tuple(shape)}, found {len(content)}{reason}; "
            "fetch the file again"
        )
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape)


def read_labelled_images(images: Path, labels: Path, classes: int = 10) -> tuple[Bytes, Indices]:
    """Grey images (N, 1, H, W) uint8 and their labels (N,) int64, from a pair of IDX files.

    ValueError if the files do not belong together or a label lies outside 0..classes-1.
    """
    image, label = read_idx(images), read_idx(labels)
    if image.ndim != 3 or label.ndim != 1:
        raise ValueError(
            f"expected images of 3 axes and labels of 1, found {image.ndim} in {images} and {label.ndim} in {labels}"
        )
    if len(image) != len(label):
        raise ValueError(f"{images} has {len(image)} images, but {labels} has {len(label)} labels")
    require_labels(label, classes, labels)
    return image[:, None], label.astype(np.int64)
