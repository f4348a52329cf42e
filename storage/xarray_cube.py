"""A cube that is small enough to be written whole from an xarray data set, as those of lines and of tickets are."""

import hashlib
import json
import warnings
from typing import TYPE_CHECKING, Any

from specdyn.storage import generations
from specdyn.storage.access import objects
from specdyn.storage.access.lease import Lease
from specdyn.storage.schema import SCHEMA_VERSION
from specdyn.storage.zarr_tree import CHECKED

if TYPE_CHECKING:
    import xarray as xr


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
        plain.to_zarr(
            zarr.storage.MemoryStore(content),
            mode="w",
            zarr_format=3,
            consolidated=True,
            encoding={name: {"compressors": CHECKED} for name in plain.variables},
            write_empty_chunks=True,  # one that is missing later is known to be lost
        )
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
