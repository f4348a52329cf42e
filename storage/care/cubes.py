"""Checks of cubes: all chunks exist and match their checksums, metadata agree, no result is missing."""

import functools
import itertools
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from specdyn.storage import generations
from specdyn.storage.access import objects
from specdyn.storage.access.lease import holder_of
from specdyn.storage.access.listing import listing_below
from specdyn.storage.access.objects import StoreError
from specdyn.storage.care.damage import Check, Checked, Damage, Look
from specdyn.storage.generations import ROOT, SEAL
from specdyn.storage.places import Store
from specdyn.storage.results import SUFFIX, blocks_of, parts_in, read_metadata
from specdyn.storage.rows import PAIRS, TICKETS, RowKind, contents_of
from specdyn.storage.schema import RUNS_GROUP, SCHEMA_VERSION

REPAIR = "`specdyn repair` deletes the cube where its results are there; the next call gathers it again"
MEASURED_AGAIN = "the next call measures it again"
KINDS = {"connectivity.zarr": (PAIRS, "pairs"), "tickets.zarr": (TICKETS, "tickets")}
"""For cubes of other things than runs: the kind of row, and the kind of results."""


def cubes_in(look: Look) -> list[str]:
    """The keys of the cubes to check."""
    found = {
        "/".join(key.split("/")[:2])
        for key in look.below("studies")
        if key.count("/") > 1 and key.split("/")[1].endswith(".zarr")
    }
    return [f"studies/{key}" for key in sorted(found) if look.has_study(key.split("/")[0])]


def checks_of_cube(look: Look, key: str) -> Iterator[Check]:
    """Checks of a cube's metadata, of each array, and of the results that it holds."""
    url = look.url(key)
    if holder := holder_of(look.store.lease(url)):
        said = f"{url}: {holder} works on it"
        yield lambda: Checked(objects=0, skipped=said)
        return
    cube = _Cube(look=look, url=url, there={k: item.bytes for k, item in look.below(key).items()})
    try:
        root = _parsed_root(objects.read(f"{url}/{ROOT}"))
    except (FileNotFoundError, ValueError, KeyError, TypeError, AttributeError) as error:
        what = "is missing" if isinstance(error, FileNotFoundError) else f"{type(error).__name__}: {error}"
        yield lambda: cube.bad(ROOT, what)
        return
    nodes: dict[str, Any] = root["consolidated_metadata"]["metadata"]
    yield lambda: Checked(bytes=cube.there[ROOT])
    for path, node in nodes.items():
        yield functools.partial(_check_node, cube, path, node, nodes)
        if node["node_type"] == "array":
            yield functools.partial(_check_array, cube, path, node)
    yield functools.partial(_check_results, cube, root)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Cube:
    look: Look
    url: str
    there: Mapping[str, int]
    """Size of each of its objects in bytes, by key."""

    def damage(self, key: str, what: str) -> Damage:
        said = " ".join(what.split())[:300]
        return Damage(kind="cube", url=f"{self.url}/{key}", what=said, repair=REPAIR, owner=self.url)

    def bad(self, key: str, what: str) -> Checked:
        return Checked(bytes=self.there.get(key, 0), damage=(self.damage(key, what),))


def _parsed_root(data: bytes) -> dict[str, Any]:
    """The root metadata; ValueError or similar if they were altered."""
    root: dict[str, Any] = json.loads(data)
    attributes = root["attributes"]
    if not 1 <= int(attributes["schema_version"]) <= SCHEMA_VERSION:
        raise ValueError(f"schema version {attributes['schema_version']}")
    if attributes.get(SEAL) != generations.metadata_digest(root):
        raise ValueError("the digest of its metadata does not match")
    nodes = root["consolidated_metadata"]["metadata"].values()
    forms = {json.dumps(node["chunk_key_encoding"], sort_keys=True) for node in nodes if node["node_type"] == "array"}
    if len(forms) != 1:
        raise ValueError("its arrays have chunks in several forms")
    return root


def _check_node(cube: _Cube, path: str, node: Mapping[str, Any], nodes: Mapping[str, Any]) -> Checked:
    """Check that the metadata of a group or array equal the copy in the root."""
    key = f"{path}/{ROOT}"
    try:
        own = json.loads(objects.read(f"{cube.url}/{key}"))
        repeated = (own.get("consolidated_metadata") or {}).get("metadata", {})
        differs = [name for name, copy in repeated.items() if _bare(copy) != _bare(nodes[f"{path}/{name}"])]
        if _bare(own) != _bare(node) or differs:
            return cube.bad(key, "differs from what the metadata of the whole cube say")
    except FileNotFoundError:
        return cube.bad(key, "is missing")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        return cube.bad(key, f"{type(error).__name__}: {error}")
    return Checked(bytes=cube.there.get(key, 0))


def _bare(node: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in node.items() if name != "consolidated_metadata"}


def _check_array(cube: _Cube, path: str, node: Mapping[str, Any]) -> Checked:
    """Check that every chunk of an array exists and matches its checksum."""
    import zarr
    from zarr.core.metadata import ArrayV3Metadata
    from zarr.storage import StorePath

    described = ArrayV3Metadata.from_dict(dict(node))
    place = StorePath(objects.zarr_store(cube.url, read_only=True), path)
    array: Any = zarr.Array(zarr.AsyncArray(metadata=described, store_path=place))
    found: list[Damage] = []
    count = size = 0
    grid = [range(-(-length // chunk)) for length, chunk in zip(array.shape, array.chunks, strict=True)]
    for index in itertools.product(*grid):
        key = f"{path}/{described.chunk_key_encoding.encode_chunk_key(index)}"
        count, size = count + 1, size + cube.there.get(key, 0)
        if key not in cube.there:
            found.append(cube.damage(key, "is missing"))
            continue
        try:
            array.blocks[index] if index else array[...]
        except StoreError:
            raise
        except Exception as error:  # noqa: BLE001 - codecs raise what they like
            found.append(cube.damage(key, f"{type(error).__name__}: {error}"))
    return Checked(objects=count, bytes=size, damage=tuple(found))


def results_are_there(store: Store, url: str) -> bool:
    """Whether the cube can be gathered again from its results.

    Also True if its contents cannot be determined: the next call would begin with an empty cube in any case.
    """
    look = Look(store=store, keys=listing_below(store.url))
    cube = _Cube(look=look, url=url, there={})
    try:
        return not list(_lost_results(cube, str(generations.attributes(url)["experiment"])))
    except StoreError:
        raise
    except Exception:  # noqa: BLE001 - whatever damaged metadata and chunks make a parser raise
        return True


def _lost_results(cube: _Cube, experiment: str) -> Iterator[str]:
    name = cube.url.rsplit("/", 1)[-1]
    return _lost(cube, experiment, *KINDS[name]) if name in KINDS else _lost_blocks(cube, experiment)


def _check_results(cube: _Cube, root: Mapping[str, Any]) -> Checked:
    """Check that no result that the cube was gathered from is missing."""
    try:
        lost = list(_lost_results(cube, str(root["attributes"].get("experiment", ""))))
    except StoreError:
        raise
    except Exception:  # noqa: BLE001 - a column that cannot be read is found as an array
        return Checked(objects=0)
    what = "is missing, though the cube has its values"
    damage = (Damage(kind="result", url=url, what=what, repair=MEASURED_AGAIN, owner=cube.url) for url in lost)
    return Checked(objects=0, damage=tuple(damage))


def _columns(cube: _Cube, *names: str) -> list[list[Any]]:
    import zarr

    tree: Any = zarr.open_consolidated(objects.zarr_store(cube.url, read_only=True), mode="r", zarr_format=3)
    return [tree[name][:].tolist() for name in names]


def _lost(cube: _Cube, experiment: str, rows: RowKind, kind: str) -> Iterator[str]:
    """Missing results of pairs or tickets that are in a cube."""
    there = cube.look.below(f"results/{kind}/{experiment}")
    for results in _columns(cube, f"{rows.sources}/results")[0]:
        if results and f"{results}{SUFFIX}" not in there:
            yield cube.look.store.result(kind, experiment, results)


def _lost_blocks(cube: _Cube, experiment: str) -> Iterator[str]:
    """Missing blocks of runs in a cube: by name if the cube keeps the names, else by number and digest."""
    columns = _columns(cube, *(f"{RUNS_GROUP}/{name}" for name in ("results", "parts", "contents")))
    kept = _kept(cube) or [""] * len(columns[0])
    for results, parts, contents, listed in zip(*columns, kept, strict=True):
        if not results:
            continue
        folder = cube.look.store.run_results(experiment, results.partition("/")[0])
        names = list(cube.look.below(folder.removeprefix(f"{cube.look.store}/")))
        if listed:
            yield from (f"{folder}/{name}" for name in listed.split("\n") if name not in names)
        elif len(names) < parts:
            yield _named(folder, names, contents) or f"{folder}/*{SUFFIX}"


def _kept(cube: _Cube) -> list[str]:
    """The object names that a cube keeps, one entry per row; empty if it keeps none."""
    try:
        return [str(names) for names in _columns(cube, f"{RUNS_GROUP}/objects")[0]]
    except KeyError:
        return []


def _named(folder: str, names: list[str], contents: str) -> str:
    """The object whose absence explains the digest mismatch; empty if it cannot be determined."""
    found = parts_in(names)
    if not found:
        return ""
    steps = tuple(read_metadata(f"{folder}/{found[0].name}")["labels"]["step"])
    for block, analyses in itertools.product(blocks_of(steps), {part.analyses for part in found}):
        name = f"{block[0]:08d}-{block[-1]:08d}-{analyses}{SUFFIX}"
        whole = {f"{folder}/{one}": frozenset[str]() for one in (*names, name)}
        if name not in names and contents_of(whole) == contents:
            return f"{folder}/{name}"
    return ""
