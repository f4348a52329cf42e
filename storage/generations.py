"""Generations of a Zarr: a new one is written next to the old, and one PUT of the root's metadata switches readers.

Chunk keys have one of three forms, used in turn, so that successive generations never collide. A reader
keeps the metadata that it opened with, and finds its chunks until the third later build begins.
"""

import hashlib
import json
import re
from collections.abc import Callable, Mapping
from typing import Any, Literal, TypedDict

from specdyn.storage.access import objects
from specdyn.storage.access.listing import listing

ROOT = "zarr.json"
SEAL = "metadata_sha256"
"""The attribute of the root with the digest of all metadata."""


class ChunkKeys(TypedDict):
    """How Zarr names the chunks of an array."""

    name: Literal["default", "v2"]
    separator: Literal[".", "/"]


FORMS: tuple[ChunkKeys, ...] = (
    {"name": "default", "separator": "/"},
    {"name": "default", "separator": "."},
    {"name": "v2", "separator": "."},
)
KEYS = tuple(re.compile(f"(?:.+/)?{tail}") for tail in (r"c(?:/\d+)+", r"c(?:\.\d+)+", r"\d+(?:\.\d+)*"))
"""The forms of chunk keys; the last one is matched last."""


def begin(url: str, avoided: bool = False) -> int:
    """Clear and return the form for the next generation; only one process may build at a time.

    `avoided` takes the other free form, if a process presumed dead may still write into the usual one.
    """
    present = current(url)
    if present is None:
        objects.delete(url)
        return int(avoided)
    form = (present + 1 + avoided) % len(FORMS)
    objects.delete_all(url, [key for key in objects.find(url) if form_of(key) == form])
    return form


def current(url: str) -> int | None:
    """The form of the current generation; None if nothing can be opened."""
    try:
        nodes = _root(url)["consolidated_metadata"]["metadata"].values()
        keys = next(node["chunk_key_encoding"] for node in nodes if node["node_type"] == "array")
        return FORMS.index({"name": keys["name"], "separator": keys["configuration"]["separator"]})
    except (ValueError, KeyError, TypeError, StopIteration):
        return None


def attributes(url: str) -> dict[str, Any]:
    """The current attributes of the root; empty if nothing can be opened."""
    found = _root(url).get("attributes")
    return found if isinstance(found, dict) else {}


def _root(url: str) -> dict[str, Any]:
    try:
        found = json.loads(objects.read(f"{url}/{ROOT}"))
    except (FileNotFoundError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def form_of(key: str) -> int | None:
    """The form of a chunk's key; None for metadata."""
    return next((form for form, keys in enumerate(KEYS) if keys.fullmatch(key)), None)


def switch(url: str, metadata: Mapping[str, bytes], check: Callable[[], None]) -> None:
    """Switch readers to a generation whose chunks are complete.

    The root is written first, as it alone decides what a reader of consolidated metadata sees; then those of groups
    and arrays, and obsolete ones are removed. `check` raises if another process took over.
    """
    others = {key: data for key, data in metadata.items() if key != ROOT}
    check()
    if current(url) is None:
        objects.write_all(url, others)
        objects.write(f"{url}/{ROOT}", metadata[ROOT])
        return
    objects.write(f"{url}/{ROOT}", metadata[ROOT])
    objects.write_all(url, others)
    gone = [key for key in objects.find(url) if key.endswith(f"/{ROOT}") and key not in metadata]
    objects.delete_all(url, gone)


def superseded(url: str, before: float) -> dict[str, int]:
    """Keys and sizes in bytes of the chunks of generations other than the current one.

    Empty if the current one was written after the time `before`: the previous one may still have readers.
    """
    present, root = current(url), listing(url).get(ROOT)
    if present is None or root is None or not root.written <= before:
        return {}
    sizes = objects.find_sizes(url)
    return {key: size for key, size in sizes.items() if form_of(key) not in (None, present)}


def in_form(files: Mapping[str, bytes], form: int) -> dict[str, bytes]:
    """Convert the objects of a Zarr from the first form to another; adds the digest to the root."""
    stated = {_renamed(key, form): _restated(key, data, form) for key, data in files.items()} if form else dict(files)
    return {key: _sealed(data) if key == ROOT else data for key, data in stated.items()}


def _sealed(data: bytes) -> bytes:
    plain = json.loads(data)
    plain["attributes"][SEAL] = metadata_digest(plain)
    return json.dumps(plain).encode()


def metadata_digest(root: Mapping[str, Any]) -> str:
    """Digest of all consolidated metadata, whatever the form of the chunk keys; equal for equal cubes."""
    plain = json.loads(json.dumps(root))
    plain["attributes"].pop(SEAL, None)
    for node in plain["consolidated_metadata"]["metadata"].values():
        node.pop("chunk_key_encoding", None)
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()


def _renamed(key: str, form: int) -> str:
    if form_of(key) != 0:
        return key
    node, _, chunk = key.rpartition("/c/")
    separator, prefix = FORMS[form]["separator"], "" if FORMS[form]["name"] == "v2" else f"c{FORMS[form]['separator']}"
    return f"{node}/{prefix}{chunk.replace('/', separator)}"


def _restated(key: str, data: bytes, form: int) -> bytes:
    if key != ROOT and not key.endswith(f"/{ROOT}"):
        return data
    plain = json.loads(data)
    for node in (plain, *plain.get("consolidated_metadata", {}).get("metadata", {}).values()):
        _restate(node, form)
    return json.dumps(plain).encode()


def _restate(node: dict[str, Any], form: int) -> None:
    if node["node_type"] == "array":
        keys = FORMS[form]
        node["chunk_key_encoding"] = {"name": keys["name"], "configuration": {"separator": keys["separator"]}}
