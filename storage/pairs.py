"""Values measured between two runs, and at their ends: an object each, put once, and the cube made of them."""

import hashlib
import json
import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from specdyn.storage import generations
from specdyn.storage.access import objects
from specdyn.storage.access.lease import Lease
from specdyn.storage.checkpoints import pack, unpack
from specdyn.storage.places import Store
from specdyn.storage.schema import SCHEMA_VERSION

if TYPE_CHECKING:
    import xarray as xr

Values = dict[str, np.ndarray]


Kind = Literal["ends", "pairs", "tickets"]


def values_url(store: Store, experiment: str, kind: Kind, results_id: str) -> str:
    """What was measured of a run's last checkpoint, between two runs, or of a ticket beside its dense run.

    The id says what it was measured of: it has the digest of all that decides the values.
    """
    return f"{store.connections(experiment)}/{kind}/{results_id}.safetensors"


def measured(store: Store, experiment: str, kind: Kind) -> set[str]:
    """Ids of all that was measured of a kind; one listing."""
    found = objects.names(f"{store.connections(experiment)}/{kind}")
    return {name.removesuffix(".safetensors") for name in found}


def write_values(url: str, values: Mapping[str, np.ndarray], metadata: Mapping[str, Any]) -> bool:
    """Put arrays as one object; False where it was there before."""
    import torch

    tensors = {name: torch.from_numpy(np.array(value)) for name, value in values.items()}
    return objects.create(url, pack(tensors, {"schema_version": SCHEMA_VERSION, **metadata}))


def read_values(url: str) -> Values | None:
    """The arrays of an object, or None where there is none."""
    try:
        return {name: tensor.numpy() for name, tensor in unpack(objects.read(url))[0].items()}
    except FileNotFoundError:
        return None


def write_dataset(url: str, data: "xr.Dataset", lease: Lease | None = None, contents: str = "") -> None:
    """Write a data set beside the one at `url`, then switch readers to it; LeaseLost where another process took over.

    What is there already is not written again: `contents` says what decides all of it, a hash of every byte where it
    is not given.
    """
    import zarr.storage

    content: dict[str, Any] = {}
    plain = data.assign_attrs(schema_version=SCHEMA_VERSION)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Consolidated metadata")
        plain.to_zarr(zarr.storage.MemoryStore(content), mode="w", zarr_format=3, consolidated=True)
    found = {key: value.to_bytes() for key, value in content.items()}
    contents = contents or hashlib.sha256(b"".join(key.encode() + found[key] for key in sorted(found))).hexdigest()
    if generations.attributes(url).get("contents") == contents:
        return
    root = json.loads(found["zarr.json"])
    root["attributes"]["contents"] = contents
    found["zarr.json"] = json.dumps(root, indent=2).encode()
    check = lease.verify if lease else lambda: None
    check()
    files = generations.in_form(found, generations.begin(url, bool(lease and lease.succeeded)))
    metadata = {key: value for key, value in files.items() if generations.form_of(key) is None}
    objects.write_all(url, {key: value for key, value in files.items() if key not in metadata})
    generations.switch(url, metadata, check)
