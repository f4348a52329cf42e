"""The shipped samples as the arrays that a prepared data set holds, without a store."""

from functools import cache

import numpy as np

from specdyn.models.datasets.base import PackagedFile, get_dataset
from specdyn.models.datasets.samples import FOLDER


@cache
def sample_arrays(name: str) -> dict[str, np.ndarray]:
    """Arrays of the sample variant by the data set's name."""
    dataset = get_dataset(name, "sample")
    paths = {file.name: FOLDER / file.path for file in dataset.files if isinstance(file, PackagedFile)}
    return dataset.decode(paths)[0]
