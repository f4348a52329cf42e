"""CIFAR-shaped crops of nine colour photos, classified by photo (DATA 2.3, 5.3).

They stand in for CIFAR-10 if it is not available: same shape and type, but nine classes and different results.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from specdyn.models.datasets.decoders.labels import Indices
from specdyn.models.datasets.samples import FOLDER
from specdyn.models.spec.checks import require

SIDE = 32
BLOCK = 64
SUFFIXES = {".jpg", ".png"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Crops:
    """Crops, their labels, their side of the split, and the names of the classes."""

    image: npt.NDArray[np.uint8]
    """(N, 3, 32, 32)"""
    label: Indices
    """(N,), the index of the photo in `classes`"""
    validation: npt.NDArray[np.bool_]
    """(N,)"""
    classes: tuple[str, ...]


def _read(path: Path) -> npt.NDArray[np.uint8]:
    """One photo (H, W, 3), each side a whole number of blocks, at least two."""
    with Image.open(path) as photo:
        pixels = np.asarray(photo.convert("RGB"))
    sides = pixels.shape[:2]
    if any(side % BLOCK or side < 2 * BLOCK for side in sides):
        raise ValueError(f"{path}: expected sides of 2 or more times {BLOCK} pixels, found {sides[0]} x {sides[1]}")
    return pixels


def _crops(
    photo: npt.NDArray[np.uint8], validation: bool, n: int, random: np.random.Generator
) -> npt.NDArray[np.uint8]:
    """n crops (n, 3, 32, 32), each within one block of the given colour of the checkerboard."""
    rows, columns = np.indices((photo.shape[0] // BLOCK, photo.shape[1] // BLOCK))
    blocks = np.argwhere((rows + columns) % 2 == int(validation))
    corner = blocks[random.integers(len(blocks), size=n)] * BLOCK + random.integers(BLOCK - SIDE + 1, size=(n, 2))
    offset = np.arange(SIDE)
    crops = photo[corner[:, :1, None] + offset[:, None], corner[:, 1:, None] + offset]
    return np.moveaxis(crops, -1, 1)


def photo_crops(folder: Path = FOLDER / "photos", *, train: int = 2_000, validation: int = 500, seed: int = 0) -> Crops:
    """Training crops, then validation crops, of the folder's photos; determined by the seed.

    The class is the photo, in the order of the file names (nine are shipped), and the classes alternate, so their
    counts differ by at most one. Each photo is a checkerboard of 64-pixel blocks: training crops are within its
    black blocks and validation crops within its white ones, so the two share no pixel. ValueError, naming the photo,
    if its sides are not whole numbers of blocks.
    """
    require(min(train, validation) > 0, "train, validation", (train, validation), "1 or more crops each")
    paths = sorted(path for path in folder.glob("*") if path.suffix in SUFFIXES)
    require(len(paths) > 1, "folder", str(folder), "a folder of two or more .jpg or .png photos")
    random = np.random.default_rng(seed)
    is_validation = np.arange(train + validation) >= train
    label = np.concatenate([np.arange(train), np.arange(validation)]) % len(paths)
    image = np.empty((len(label), 3, SIDE, SIDE), np.uint8)
    for kind, path in enumerate(paths):
        photo = _read(path)
        for side in (False, True):
            chosen = np.flatnonzero((label == kind) & (is_validation == side))
            image[chosen] = _crops(photo, side, len(chosen), random)
    return Crops(image=image, label=label, validation=is_validation, classes=tuple(path.stem for path in paths))
