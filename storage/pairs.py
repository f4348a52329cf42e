"""Values measured between two runs, and at their ends: an object each, put once, and the cube made of them."""

import warnings
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
import torch
import xarray as xr
import zarr.storage

from storage import locations
from storage.checkpoints import pack, unpack
from storage.layout import Layout
from storage.schema import SCHEMA_VERSION

Values = dict[str, np.ndarray]


Kind = Literal["ends", "pairs", "tickets"]


def values_url(store: str, experiment: str, kind: Kind, results_id: str) -> str:
    """What was measured of a run's last checkpoint, between two runs, or of a ticket beside its dense run.

    The id says what it was measured of: it has the digest of all that decides the values.
    """
    return f"{Layout(store).connections(experiment)}/{kind}/{results_id}.safetensors"


def measured(store: str, experiment: str, kind: Kind) -> set[str]:
    """Ids of all that was measured of a kind; one listing."""
    found = locations.names(f"{Layout(store).connections(experiment)}/{kind}")
    return {name.removesuffix(".safetensors") for name in found}


def write_values(url: str, values: Mapping[str, np.ndarray], body: Mapping[str, Any]) -> bool:
    """Put arrays as one object; False where it was there before."""
    tensors = {name: torch.from_numpy(np.array(value)) for name, value in values.items()}
    return locations.create(url, pack(tensors, {"schema_version": SCHEMA_VERSION, **body}))


def read_values(url: str) -> Values | None:
    """The arrays of an object, or None where there is none."""
    try:
        return {name: tensor.numpy() for name, tensor in unpack(locations.read(url))[0].items()}
    except FileNotFoundError:
        return None


def write_dataset(url: str, data: xr.Dataset) -> None:
    """Replace the Zarr at `url` by a data set; its root goes first and comes last, so that what opens is whole."""
    content: dict[str, Any] = {}
    plain = data.assign_attrs(schema_version=SCHEMA_VERSION)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Consolidated metadata")
        plain.to_zarr(zarr.storage.MemoryStore(content), mode="w", zarr_format=3, consolidated=True)
    objects = {key: value.to_bytes() for key, value in content.items()}
    root = objects.pop("zarr.json")
    locations.delete(f"{url}/zarr.json")
    locations.delete(url)
    locations.write_all(url, objects)
    locations.write(f"{url}/zarr.json", root)
