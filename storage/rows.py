"""The rows of a cube: one per run, with its labels, its settings and the URLs of its results."""

import functools
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from specdyn.storage.access.many import read_each
from specdyn.storage.identity import short_digest
from specdyn.storage.results import DamagedResult, RunLayout, values_in
from specdyn.storage.schema import NO_COUNT, RUNS_GROUP, SHORT_NAME, Variable

if TYPE_CHECKING:
    import xarray as xr

Labels = Mapping[str, list[Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class RowKind:
    """What the rows of a cube stand for, and which groups hold their values and sources."""

    dim: str
    long_name: str
    group: str | None = None
    """The group of all values, empty for the root; None if the first dimension of a variable decides."""
    sources: str
    """The group of all settings and of the sources of the values."""


RUNS = RowKind(dim="run", long_name="training run", sources=RUNS_GROUP)
PAIRS = RowKind(dim="pair", long_name="two runs that are connected", group="", sources="sources")
TICKETS = RowKind(dim="ticket", long_name="run from a mask of a dense run", group="", sources="sources")


def row_dim(data: "xr.Dataset") -> str | None:
    """The dimension along which a group of a cube has its rows: runs, tickets, or pairs of runs; None without rows."""
    for kind in (RUNS, TICKETS):
        if kind.dim in data.dims:
            return kind.dim
    # Pairs of layers use the same dimension, but have no status along it.
    of_runs = "status" in data.coords and data["status"].dims == (PAIRS.dim,)
    return PAIRS.dim if of_runs else None


@dataclass(frozen=True, kw_only=True)
class Row:
    """One run, trained or not; or a pair of runs, or a ticket."""

    key: str
    status: str
    """One of STATUSES."""
    layout_of: Callable[[], RunLayout]
    """Returns its labels and variables, possibly by building a network; the same object for rows that agree in them."""
    coordinates: Mapping[str, Any]
    """The settings that distinguish it from others."""
    names: Mapping[str, str] = field(default_factory=dict)
    """Further coordinates that do not identify it, such as a display name."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """All of its settings."""
    provenance: Mapping[str, str] = field(default_factory=dict)
    """Provenance that does not identify it, such as the processor."""
    results: str = ""
    """Identifies the checkpoints that its values come from; empty if nothing is measured.

    It is the name of the folder of its objects, or starts with that and a slash.
    """
    trained: str = ""
    """Summary of its manifest, so that later calls need not read it; empty if unknown."""
    parts: Mapping[str, frozenset[str]] = field(default_factory=dict)
    """URLs of the objects with its values, each with the variables to take from it."""
    listed: bool = False
    """Whether the cube keeps the names of these objects, as their folder also holds superseded ones."""

    @functools.cached_property
    def layout(self) -> RunLayout:
        """Its labels and variables."""
        return self.layout_of()

    @property
    def contents(self) -> str:
        """Digest of what determines its values; empty if there are none."""
        return contents_of(self.parts) if self.parts else ""

    @property
    def objects(self) -> str:
        """The names of its objects, one per line, if they are kept."""
        return "\n".join(sorted(url.rsplit("/", 1)[-1] for url in self.parts)) if self.listed else ""


def contents_of(parts: Mapping[str, frozenset[str]]) -> str:
    """Digest of the objects that hold the values of a row."""
    return short_digest(sorted(url.rsplit("/", 2)[-2:] for url in parts))


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """Derived values of one row."""

    declare: Callable[[Mapping[str, Variable]], Mapping[str, Variable]]
    """The facts of a run that has these variables."""
    compute: "Callable[[Mapping[Any, xr.DataArray]], Mapping[str, Any]]"
    """Computes their values from the arrays of a run, in which missing counts are NaN."""


def declared(layout: RunLayout, facts: Facts | None) -> dict[str, Variable]:
    """Variables and facts of a run."""
    return {**layout.variables, **(facts.declare(layout.variables) if facts else {})}


def rows_values(rows: Sequence[Row], facts: Facts | None) -> Iterator[dict[str, np.ndarray]]:
    """The same as `row_values` for each of several rows, whose objects are read many at a time."""
    contents = read_each([url for row in rows for url in row.parts])
    return (_row_values(row, facts, itertools.islice(contents, len(row.parts))) for row in rows)


def row_values(row: Row, facts: Facts | None) -> dict[str, np.ndarray]:
    """Every variable of a run on its own labels, and its facts; fill values where nothing is measured.

    DamagedResult if an object is damaged or missing.
    """
    return _row_values(row, facts, read_each(list(row.parts)))


def _row_values(row: Row, facts: Facts | None, contents: Iterator[tuple[str, bytes | None]]) -> dict[str, np.ndarray]:
    """The same with the objects of the row, by URL in its order."""
    sizes, places = row.layout.sizes, _Places(row.layout.labels)
    arrays = {
        name: np.full([sizes[dim] for dim in variable.dims], variable.fill, variable.dtype)
        for name, variable in row.layout.variables.items()
    }
    for url, content in contents:
        if content is None:
            raise DamagedResult(url, "it is gone")
        found, counting = values_in(url, content), row.parts[url]
        for name in counting & found.values.keys() & arrays.keys():
            if "labels" not in found.metadata:
                arrays[name] = _whole(url, name, found.values[name], arrays[name].shape)
                continue
            of_run = found.metadata["labels"]
            labels = of_run if name in found.metadata["of_run"] else {**of_run, "step": found.steps}
            try:
                where = [places.of(dim, labels[dim]) for dim in row.layout.variables[name].dims]
            except KeyError as error:
                raise DamagedResult(url, f"{name!r} has the label {error}, which its run lacks") from None
            arrays[name][np.ix_(*where)] = found.values[name]
    return with_facts(row.layout, arrays, facts)


def with_facts(layout: RunLayout, arrays: Mapping[str, np.ndarray], facts: Facts | None) -> dict[str, np.ndarray]:
    """The values of a run on its own labels, and its facts."""
    if facts is None:
        return dict(arrays)
    form = facts.declare(layout.variables)
    values = facts.compute(_labelled(layout, arrays))
    return {**arrays, **{name: form[name].stored(np.asarray(value)) for name, value in values.items()}}


def _whole(url: str, name: str, values: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """The values of an object without labels, which must be whole variables; DamagedResult for another shape."""
    if values.shape != shape:
        raise DamagedResult(url, f"{name!r} has the shape {values.shape}, expected {shape}")
    return values


class _Places:
    """Positions of labels along their dimensions."""

    def __init__(self, labels: Mapping[str, Sequence[Any]]) -> None:
        self._labels = labels
        self._of = functools.cache(self._index)

    def _index(self, dim: str) -> dict[Any, int]:
        return {label: place for place, label in enumerate(self._labels[dim])}

    def of(self, dim: str, labels: Sequence[Any]) -> list[int]:
        """The positions of labels; KeyError for an unknown label."""
        index = self._of(dim)
        return [index[label] for label in labels]


def placed(
    values: Mapping[str, np.ndarray], row: Row, variables: Mapping[str, Variable], labels: Mapping[str, Sequence[Any]]
) -> dict[str, np.ndarray]:
    """The values of one row on the labels of a cube, for every variable of the cube."""
    places = _Places(labels)
    spread = {}
    for name, variable in variables.items():
        array = np.full([len(labels[dim]) for dim in variable.dims], variable.fill, variable.dtype)
        if name in values:
            array[np.ix_(*(places.of(dim, row.layout.labels[dim]) for dim in variable.dims))] = values[name]
        spread[name] = array
    return spread


def _labelled(layout: RunLayout, arrays: Mapping[str, np.ndarray]) -> "Mapping[Any, xr.DataArray]":
    """The arrays with their labels; NaN for what is missing of a count."""
    import xarray as xr

    variables = {}
    for name, array in arrays.items():
        variable = layout.variables[name]
        values = np.where(array == variable.fill, np.nan, array) if "_FillValue" in variable.attributes else array
        variables[name] = (variable.dims, values, variable.attributes)
    used = {dim for dims, _, _ in variables.values() for dim in dims}
    return xr.Dataset(variables, {dim: list(layout.labels[dim]) for dim in used}).data_vars


def missing_of(values: Sequence[Any]) -> Any:
    """The fill value for runs without such a label: an empty string, NaN or, among whole numbers, -1."""
    if any(isinstance(value, str) for value in values):
        return ""
    return float("nan") if any(isinstance(value, float) for value in values) else NO_COUNT


def union(every: Sequence[Mapping[str, Sequence[Any]]]) -> dict[str, list[Any]]:
    """Labels of each dimension over all runs: numbers sorted, names in order of appearance."""
    union: dict[str, dict[Any, None]] = {}
    for labels_of in every:
        for dim, labels in labels_of.items():
            union.setdefault(dim, {}).update(dict.fromkeys(labels))
    return {
        dim: sorted(labels) if all(isinstance(label, int | float) for label in labels) else list(labels)
        for dim, labels in union.items()
    }


def extra_of(name: str, labels: Labels, layouts: Sequence[Any]) -> tuple[str, list[Any] | None]:
    """A further coordinate: its values along its dimension, or None if the runs differ in them."""
    having = [layout for layout in layouts if name in layout.extras]
    dim, _ = having[0].extras[name]
    each = [dict(zip(layout.labels[dim], layout.extras[name][1], strict=True)) for layout in having]
    together = {label: value for one in each for label, value in one.items()}
    agree = dim in labels and all(one.items() <= together.items() for one in each)
    if name == SHORT_NAME and not agree and dim in labels:
        return dim, _shortest(each, labels[dim])
    return dim, [together[label] for label in labels[dim]] if agree else None


def _shortest(each: Sequence[Mapping[Any, str]], labels: Sequence[str]) -> list[str]:
    """Short names that are unique over all runs: of the names that runs use for a layer, the longest."""
    longest = [max((one[label] for one in each if label in one), key=len) for label in labels]
    return [short if longest.count(short) == 1 else label for short, label in zip(longest, labels, strict=True)]
