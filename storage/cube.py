"""Writes the cube of a study: one Zarr with a row per run, created for all runs at the start and filled as they end.

New values are added to the existing ones, runs are appended, and a reader never sees a value vanish. If labels
change, or a run has different results than before, a new generation is written next to the old one, and one PUT
switches readers to it. A lease ensures that only one process writes.
"""

import functools
import itertools
import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import zarr
import zarr.storage
from zarr.core.metadata import ArrayV3Metadata
from zarr.storage import StorePath

from specdyn.storage import generations
from specdyn.storage.access import objects
from specdyn.storage.access.lease import Lease
from specdyn.storage.cube_tree import Structure, Taken
from specdyn.storage.generations import ROOT
from specdyn.storage.query import DamagedCube, reading
from specdyn.storage.rows import RUNS, Facts, Row, RowKind, placed, rows_values
from specdyn.storage.schema import LIVE

HELD_BYTES = 64 * 1024 * 1024
"""Bytes of values held in memory at a time."""
WRITERS = 8
"""Arrays written concurrently."""

Array = zarr.Array[Any]


@dataclass(slots=True, kw_only=True)
class CubeWriter:
    """Writes new rows to the cube at a URL, or all of it; used by one process, which holds the lease."""

    url: str
    kind: RowKind = RUNS
    facts: Facts | None = None
    meanings: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """Attributes of settings, by name."""
    lease: Lease | None = None
    _there: dict[str, Taken] | None = field(default=None)
    """What the cube holds of each row, once it has been read."""
    _built: bool = False
    """Whether this writer made the current generation."""

    def write(self, rows: Sequence[Row], attributes: Mapping[str, Any]) -> None:
        """Update the cube to these rows, in this order; LeaseLost if another process took over.

        Only rows with new results are read. A row without results now keeps its previous values.
        """
        structure = Structure.of(self.kind, rows, self.facts, attributes, self.meanings)
        there = self._look(structure.digest)
        taken = [_taken(there.get(row.key) if there else None, row) for row in rows]
        appended = there is not None and list(there) == [row.key for row in rows[: len(there)]]
        # A previous holder presumed dead may still write into its generation, so nothing is added to that one.
        avoided = bool(self.lease and self.lease.succeeded) and not self._built
        if there is None or avoided or not appended or any(_replaces(there.get(row.key), row) for row in rows):
            taken = [_taken(None, row) for row in rows]
            self._build(structure, rows, taken)
        else:
            try:
                with reading(self.url):
                    self._extend(structure, rows, taken, there)
            except DamagedCube:
                taken = [_taken(None, row) for row in rows]
                self._build(structure, rows, taken)
        self._there = dict(zip([row.key for row in rows], taken, strict=True))

    def _look(self, structure: str) -> dict[str, Taken] | None:
        """The rows of the existing cube; None if there is none with this structure."""
        if generations.attributes(self.url).get("structure") != structure:
            return None
        if self._there is None:
            self._there = _read_taken(self.url, self.kind)
        return self._there

    def _build(self, structure: Structure, rows: Sequence[Row], taken: Sequence[Taken]) -> None:
        """Write a new generation next to the current one, and switch readers to it."""
        self._check()
        form = generations.begin(self.url, bool(self.lease and self.lease.succeeded))
        files = generations.in_form(structure.files(rows, taken), form)
        metadata = {key: data for key, data in files.items() if generations.form_of(key) is None}
        objects.write_all(self.url, {key: data for key, data in files.items() if key not in metadata})
        self._fill(structure, rows, metadata, [i for i, row in enumerate(rows) if row.parts], first=0)
        generations.switch(self.url, metadata, self._verify)
        self._built = True

    def _extend(
        self, structure: Structure, rows: Sequence[Row], taken: Sequence[Taken], there: Mapping[str, Taken]
    ) -> None:
        """Write what is new: values first, then their provenance, then the metadata."""
        changed = [i for i, row in enumerate(rows) if there.get(row.key) != taken[i]]
        fresh = [i for i in changed if taken[i].contents != there.get(rows[i].key, Taken(status="")).contents]
        files, form = structure.files(rows, taken), generations.current(self.url)
        assert form is not None
        columns = _columns_to_put(files, self.kind.dim, len(there), changed)
        metadata = generations.in_form({key: files[key] for key in files if generations.form_of(key) is None}, form)
        self._check()
        begun = {i for i in fresh if there.get(rows[i].key, Taken(status="")).contents}
        self._fill(structure, rows, metadata, fresh, first=len(there), begun=begun)
        self._check()
        for last in (False, True):  # the bookkeeping for the next writer comes after what readers see
            chosen = {key: files[key] for key in columns if key.startswith(f"{self.kind.sources}/") is last}
            objects.write_all(self.url, generations.in_form(chosen, form))
        grows = len(rows) > len(there)
        if grows or generations.attributes(self.url) != json.loads(metadata[ROOT])["attributes"]:
            self._verify()
            objects.write(f"{self.url}/{ROOT}", metadata[ROOT])
        if grows:
            objects.write_all(self.url, {key: data for key, data in metadata.items() if key != ROOT})

    def _fill(
        self,
        structure: Structure,
        rows: Sequence[Row],
        metadata: Mapping[str, bytes],
        fresh: Sequence[int],
        first: int,
        begun: Collection[int] = (),
    ) -> None:
        """Write the values of rows, and empty chunks for new rows without values.

        Every chunk then exists, so a missing chunk means damage. Rows in `begun` have values already.
        """
        store = objects.zarr_store(self.url)
        arrays = {
            name: _array(store, structure.path(group, name), metadata)
            for group, variables in structure.groups.items()
            for name in variables
        }
        with ThreadPoolExecutor(WRITERS) as pool:
            for places in _batches(fresh, structure.row_bytes()):
                found = rows_values([rows[i] for i in places], self.facts)
                spread = [
                    placed(values, rows[i], structure.variables, structure.labels)
                    for i, values in zip(places, found, strict=True)
                ]
                self._check()
                stacked = [np.stack([values[name] for values in spread]) for name in arrays]
                list(pool.map(functools.partial(self._put, places, begun), arrays.values(), stacked))
            empty = {
                key: data
                for name, array in arrays.items()
                for key, data in _empty_chunks(array, first, len(rows), set(fresh)).items()
            }
        objects.write_all(self.url, empty)

    def _put(self, places: Sequence[int], begun: Collection[int], array: Array, values: np.ndarray) -> None:
        self._check()
        with objects.explained(self.url):
            _put(places, begun, array, values)

    def _check(self) -> None:
        if self.lease:
            self.lease.check()

    def _verify(self) -> None:
        if self.lease:
            self.lease.verify()


def _taken(before: Taken | None, row: Row) -> Taken:
    """What a cube that held `before` now holds of a row; old values stay if there are none now."""
    now = Taken(
        status=row.status,
        computed_on=row.provenance.get("computed_on", ""),
        results=row.results if row.parts else "",
        parts=len(row.parts),
        contents=row.contents,
        trained=row.trained,
        objects=row.objects,
    )
    if row.parts or before is None or not before.contents:
        return now
    return Taken(
        status=row.status,
        computed_on=now.computed_on or before.computed_on,
        results=before.results,
        parts=before.parts,
        contents=before.contents,
        trained=row.trained,
        objects=before.objects,
    )


def _replaces(before: Taken | None, row: Row) -> bool:
    """Whether a row's values come from different checkpoints than the cube's."""
    return bool(before and before.contents and row.parts and row.results != before.results)


def _read_taken(url: str, kind: RowKind) -> dict[str, Taken] | None:
    """What the existing cube holds of each row; None if it cannot be read."""
    found = _columns(url, kind, LIVE, optional=LIVE[-1]) if generations.current(url) is not None else None
    return None if found is None else {key: Taken(**row) for key, row in found.items()}


def trained_runs(url: str) -> dict[str, str]:
    """What a cube keeps of each run's manifest; empty if it cannot be read."""
    return {key: str(row["trained"]) for key, row in (_columns(url, RUNS, ("trained",)) or {}).items()}


def _columns(url: str, kind: RowKind, names: Sequence[str], optional: str = "") -> dict[str, dict[str, Any]] | None:
    """Columns of the existing cube, by row, `optional` only if present; None if they cannot be read."""
    try:
        with objects.explained(url), reading(url):
            tree = zarr.open_consolidated(objects.zarr_store(url, read_only=True), mode="r", zarr_format=3)
            group: Any = tree[kind.sources]
            names = [name for name in names if name != optional or name in group]
            keys, *columns = (np.asarray(group[name][:]).tolist() for name in (kind.dim, *names))
    except (DamagedCube, FileNotFoundError, KeyError, ValueError):
        return None
    return {key: dict(zip(names, row, strict=True)) for key, row in zip(keys, zip(*columns, strict=True), strict=True)}


def _columns_to_put(files: Mapping[str, bytes], dim: str, before: int, changed: Sequence[int]) -> list[str]:
    """Keys of the column chunks that hold new or changed rows."""
    keys = []
    for key in files:
        path, found, chunk = key.partition("/c/")
        if not found:
            continue
        described = json.loads(files[f"{path}/{ROOT}"])
        if described["dimension_names"][0] != dim:
            continue
        length, rows = described["chunk_grid"]["configuration"]["chunk_shape"][0], described["shape"][0]
        place, live = int(chunk.partition("/")[0]), path.rpartition("/")[2] in LIVE
        span = range(place * length, min(rows, (place + 1) * length))
        if span.stop > before or (live and any(i in span for i in changed)):
            keys.append(key)
    return keys


def _array(store: Any, path: str, metadata: Mapping[str, bytes]) -> Array:
    """The array that this metadata describes, which may not be stored yet."""
    described = ArrayV3Metadata.from_dict(json.loads(metadata[f"{path}/{ROOT}"]))
    array = zarr.Array(zarr.AsyncArray(metadata=described, store_path=StorePath(store, path)))
    return array.with_config({"write_empty_chunks": True})


def _put(places: Sequence[int], begun: Collection[int], array: Array, values: np.ndarray) -> None:
    """Write values of rows, neighbours in one write; rows in `begun` keep old values where there are no new ones."""
    at = 0
    for span in _spans(places):
        new = values[at : at + len(span)]
        if any(place in begun for place in span):
            new = np.where(_missing(new, array.fill_value), np.asarray(array[span.start : span.stop]), new)
        array[span.start : span.stop] = new
        at += len(span)


def _missing(values: np.ndarray, fill: Any) -> np.ndarray:
    return np.isnan(values) if values.dtype.kind == "f" else values == fill


def _spans(places: Sequence[int]) -> Iterator[range]:
    """Group ascending positions into contiguous ranges."""
    for _, group in itertools.groupby(enumerate(places), lambda pair: pair[1] - pair[0]):
        found = [place for _, place in group]
        yield range(found[0], found[-1] + 1)


def _batches(places: Sequence[int], row_bytes: int) -> Iterator[list[int]]:
    """Split positions into batches whose values fit in memory together."""
    size = max(1, HELD_BYTES // max(1, 2 * row_bytes))
    for start in range(0, len(places), size):
        yield list(places[start : start + size])


def _empty_chunks(array: Array, first: int, rows: int, filled: set[int]) -> dict[str, bytes]:
    """Chunks of new rows that received no value, by key."""
    length = array.chunks[0]
    spans = (range(i * length, min(rows, (i + 1) * length)) for i in range(-(-first // length), -(-rows // length)))
    wanted = [span.start // length for span in spans if filled.isdisjoint(span)]
    if not wanted:
        return {}
    data = _encoded_empty(array)
    encoding = array.metadata.chunk_key_encoding  # type: ignore[union-attr]
    others = itertools.product(
        *(range(-(-size // chunk)) for size, chunk in zip(array.shape[1:], array.chunks[1:], strict=True))
    )
    inner = list(others)
    return {f"{array.path}/{encoding.encode_chunk_key((place, *rest))}": data for place in wanted for rest in inner}


def _encoded_empty(array: Array) -> bytes:
    """An encoded chunk without values; every chunk has the same shape, including the last."""
    content: dict[str, Any] = {}
    plain = {**array.metadata.to_dict(), "shape": array.chunks}
    described = ArrayV3Metadata.from_dict(plain)
    one = zarr.Array(zarr.AsyncArray(metadata=described, store_path=StorePath(zarr.storage.MemoryStore(content), "")))
    one = one.with_config({"write_empty_chunks": True})
    one[...] = array.fill_value
    (data,) = (value.to_bytes() for key, value in content.items() if not key.endswith(ROOT))
    return data
