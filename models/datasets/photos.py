"""CIFAR-shaped crops of nine photos, a substitute for CIFAR-10 (DATA 2.3, 5.3)."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from specdyn.models.datasets.base import Dataset, Decoded, PackagedFile
from specdyn.models.datasets.decoders.photos import photo_crops

TRAIN, VALIDATION, SEED = 2_000, 500, 0
SHA256 = {
    "astronaut.jpg": "edfee015b3810faf784c91f802c88dfd4716fffa88e407da33b1074973e812eb",
    "chelsea.jpg": "352138c8634d27836478b9e8a0719ce5a5f16a0a226e8e171e0f06f9677cf142",
    "china.jpg": "0c02e2450d92dcf35da57ed9563510b2f9bc3a0ad809b302187a7b9e0efdce0a",
    "coffee.jpg": "56741402f670eb0d3526482b31507aa2c72a4d613451532d6add5d6cfc9f4476",
    "flower.jpg": "ee48427a6b8ada76c45302f2576d95bbe615dcf35ac3a5d5cdb9606ba1e239a0",
    "hubble_deep_field.jpg": "c416848e4f09822f58226d6e17ea4e862ad0ca09baca1ac8eda57ee81fd18b0c",
    "ihc.jpg": "625d23159816be9e56ad9f40523653c006e40a9151cecd39292498bf38b42d48",
    "retina.jpg": "3aa874d62ad508393b55a7b312556ebdefd30378f8f862b43d47b8f26e1c76cd",
    "rocket.jpg": "bdc5d8284c891a5edef86ca928a36613ee344152f7050e34901b199bad056652",
}


def decode(paths: Mapping[str, Path]) -> Decoded:
    """Crops, the photo of each, and which are for validation."""
    folder = paths["astronaut.jpg"].parent
    crops = photo_crops(folder, train=TRAIN, validation=VALIDATION, seed=SEED)
    arrays: dict[str, np.ndarray] = {"image": crops.image, "label": crops.label, "validation": crops.validation}
    return arrays, {"classes": list(crops.classes)}


DATASETS = {
    "sample": Dataset(
        name="photos",
        variant="sample",
        kind="images",
        title="2,500 crops of nine photos, not CIFAR-10",
        files=tuple(PackagedFile(path=f"photos/{name}", sha256=sha256) for name, sha256 in SHA256.items()),
        decode=decode,
        params={
            "classes": 9,
            "shape": (TRAIN + VALIDATION, 3, 32, 32),
            "train": TRAIN,
            "validation": VALIDATION,
            "seed": SEED,
        },
        licence="public domain, CC0, CC BY 2.0 (china, flower); see models/datasets/samples/LICENCES.md",
        attribution="NASA, SpaceX, scikit-image; china by danielbuechele, flower by vultilion (CC BY 2.0, cropped)",
    )
}
