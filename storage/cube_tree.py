"""Lays out the groups, coordinates and arrays of a cube in memory, before any value is written."""

import dataclasses
import functools
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import zarr

from specdyn.storage.rows import Facts, Labels, Row, RowKind, declared, extra_of, missing_of, union
from specdyn.storage.schema import (
    COORDINATES,
    DIMENSIONS,
    LIVE,
    NO_COUNT,
    PROVENANCE,
    SCHEMA_VERSION,
    STEP_UNITS,
    Variable,
)
from specdyn.storage.zarr_tree import CHECKED, COLUMN_BYTES, LabelArray, ZarrTree, add_label_arrays, rows_of_chunk

CHUNK_BYTES = 512 * 1024
"""Target size of a chunk of values in bytes, uncompressed."""
LARGEST_CHUNK = 1024 * 1024
"""Bytes of one run's values above which they are split, along the dimensions that their variable names."""
MOST_ROWS = 1024
"""Runs in a chunk of values."""
TRAINED_ROWS = 512
"""Runs in a chunk of the manifest summaries, a hundred bytes or more each."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """The status of a row and the source of its values."""

    status: str
    computed_on: str = ""
    results: str = ""
    parts: int = 0
    contents: str = ""
    trained: str = ""
    objects: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """A setting along the runs."""

    missing: Any
    """Fill value for runs without the setting: NaN, or an empty string among strings."""
    kind: str
    """Kind of its numpy dtype: a column of whole numbers changes with the first value that is not one."""


@dataclass(frozen=True, kw_only=True)
class Structure:
    """Everything that determines the arrays of a cube, apart from the number of rows."""

    kind: RowKind
    labels: Labels
    """Labels of every dimension but the rows': the union over all rows."""
    variables: Mapping[str, Variable]
    """All variables, including facts."""
    coordinates: Mapping[str, "Column"]
    """Coordinates along the runs."""
    names: tuple[str, ...]
    """Coordinates along the runs that do not identify them."""
    settings: Mapping[str, "Column"]
    """All settings of the runs."""
    extras: Mapping[str, tuple[str, list[Any] | None]]
    """Further coordinates: dimension and values; None if runs differ in them."""
    meanings: Mapping[str, Mapping[str, str]]
    """Attributes of settings, by name: what each means, and its unit."""
    attributes: Mapping[str, Any]
    listed: bool
    """Whether it keeps the names of the objects that its values come from."""

    @classmethod
    def of(
        cls,
        kind: RowKind,
        rows: Sequence[Row],
        facts: Facts | None,
        attributes: Mapping[str, Any],
        meanings: Mapping[str, Mapping[str, str]] | None = None,
    ) -> "Structure":
        """The structure of a cube with these rows; ValueError if two things in it have the same name."""
        layouts = list({id(row.layout): row.layout for row in rows}.values())
        variables = {name: variable for layout in layouts for name, variable in declared(layout, facts).items()}
        used = {dim for variable in variables.values() for dim in variable.dims}
        labels = {dim: of for dim, of in union([layout.labels for layout in layouts]).items() if dim in used}
        coordinates, settings = (_columns(of) for of in ([r.coordinates for r in rows], [r.settings for r in rows]))
        names = tuple(dict.fromkeys(name for row in rows for name in row.names))
        for name in (*coordinates, *names, *settings):
            shown = name in coordinates or name in names
            if name in (*LIVE, kind.dim) or (shown and (name in variables or name in labels)):
                raise ValueError(
                    f"{name!r} is a setting of the {kind.dim}s and a name in their results: rename one of them"
                )
        for layout in layouts:
            others = {*labels, *layout.extras, *(facts.declare(layout.variables) if facts else ())}
            if twice := sorted(others & layout.variables.keys()):
                raise ValueError(
                    f"{twice[0]!r} is a variable of an analysis and another name in the results: rename the variable"
                )
        extras = {
            name: extra_of(name, labels, layouts)
            for name in dict.fromkeys(name for layout in layouts for name in layout.extras)
        }
        return cls(
            kind=kind,
            labels=labels,
            variables=variables,
            coordinates=coordinates,
            names=names,
            settings=settings,
            extras={name: extra for name, extra in extras.items() if extra[0] in labels},
            meanings=meanings or {},
            attributes=attributes,
            listed=any(row.listed for row in rows),
        )

    @functools.cached_property
    def groups(self) -> dict[str, dict[str, Variable]]:
        """The variables of each group."""
        groups: dict[str, dict[str, Variable]] = {}
        for name, variable in self.variables.items():
            group = variable.group if self.kind.group is None else self.kind.group
            groups.setdefault(group, {})[name] = variable
        return groups

    def path(self, group: str, name: str) -> str:
        """The path of an array."""
        return f"{group}/{name}" if group else name

    @functools.cached_property
    def digest(self) -> str:
        """A digest that is equal for cubes that differ only in their rows."""
        plain = [
            dataclasses.asdict(self.kind),
            {dim: list(map(str, labels)) for dim, labels in self.labels.items()},
            {name: [variable.dims, variable.dtype, variable.attributes] for name, variable in self.variables.items()},
            [
                [[name, column.kind, str(column.missing)] for name, column in columns.items()]
                for columns in (self.coordinates, self.settings)
            ],
            # Left out if empty, so that existing cubes of runs keep their digest.
            *([list(self.names)] if self.names else []),
            *(["objects"] if self.listed else []),
            {
                name: [dim, *COORDINATES.get(name, ()), values and list(map(str, values))]
                for name, (dim, values) in self.extras.items()
            },
            {name: value for name, value in self.attributes.items() if name != "contents"},
            [SCHEMA_VERSION, CHUNK_BYTES, LARGEST_CHUNK, MOST_ROWS, COLUMN_BYTES],
        ]
        return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()

    def row_bytes(self) -> int:
        """Size of all values of one row in bytes."""
        shapes = ([len(self.labels[dim]) for dim in variable.dims] for variable in self.variables.values())
        items = (np.dtype(variable.dtype).itemsize for variable in self.variables.values())
        return sum(int(np.prod(shape)) * item for shape, item in zip(shapes, items, strict=True))

    def files(self, rows: Sequence[Row], taken: Sequence[Taken]) -> dict[str, bytes]:
        """Every object of the cube but the chunks of its values, by key."""
        tree = ZarrTree({**self.root_attributes, "structure": self.digest})
        for name, arrays in self.label_arrays(rows, taken).items():
            group = tree.root.create_group(name) if name else tree.root
            add_label_arrays(group, arrays)
            for variable, of in self.groups.get(name, {}).items():
                self._add_variable(group, variable, of, len(rows))
        tree.consolidate()
        return tree.objects()

    def label_arrays(self, rows: Sequence[Row], taken: Sequence[Taken]) -> dict[str, list[LabelArray]]:
        """What stands beside the values of each group, and the group that describes the rows."""
        groups = {name: list(self._coordinates(variables, rows, taken)) for name, variables in self.groups.items()}
        return {**groups, self.kind.sources: list(self._sources(rows, taken))}

    @property
    def root_attributes(self) -> dict[str, Any]:
        """The attributes of the whole cube but the digest of its structure."""
        return {"schema_version": SCHEMA_VERSION, "Conventions": "CF-1.11", **self._index, **self.attributes}

    @property
    def _index(self) -> dict[str, str]:
        """Attributes of the root that say which groups hold the variables."""
        if "" in self.groups:
            return {}
        groups = ", ".join([*self.groups, self.kind.sources])
        return {"groups": f"{groups}; open one with group=NAME, or all with xarray.open_datatree"}

    def _coordinates(
        self, variables: Mapping[str, Variable], rows: Sequence[Row], taken: Sequence[Taken]
    ) -> Iterator[LabelArray]:
        yield from _keys(self.kind, rows, taken)
        for name, column in self.coordinates.items():
            values = [row.coordinates.get(name, column.missing) for row in rows]
            yield _along_rows(self.kind, name, values, self._described(name, values), auxiliary=True)
        for name in self.names:
            called = [row.names.get(name, "") for row in rows]
            attributes = {**self._described(name, called), "role": PROVENANCE}
            yield _along_rows(self.kind, name, called, attributes, auxiliary=True)
        used = [dim for dim in self.labels if any(dim in variable.dims for variable in variables.values())]
        for dim in used:
            attributes = {"long_name": self._long_name(dim), **self._units(dim, self.labels[dim])}
            yield LabelArray(name=dim, dims=(dim,), values=self.labels[dim], attributes=attributes)
        for name, (dim, along) in self.extras.items():
            if dim in used:
                yield self._extra(name, dim, along, rows)

    def _long_name(self, dim: str) -> str:
        """The long name of a dimension."""
        if dim == "step":
            return STEP_UNITS[self.attributes.get("unit", "steps")]
        return DIMENSIONS.get(dim, dim)

    def _units(self, dim: str, labels: Sequence[Any]) -> dict[str, str]:
        """The units of a dimension with numeric labels; empty for text."""
        if dim == "step":
            return {"units": self.attributes.get("unit", "steps")}
        return _units_of(labels)

    def _described(self, name: str, values: Sequence[Any]) -> dict[str, str]:
        """The attributes of a setting along the rows."""
        return {"long_name": name.replace("_", " "), **_units_of(values), **self.meanings.get(name, {})}

    def _extra(self, name: str, dim: str, along: list[Any] | None, rows: Sequence[Row]) -> LabelArray:
        """Add a further coordinate, under a longer name if a setting of the rows has the same (`depth`, say)."""
        long_name, comment = COORDINATES.get(name, (name, ""))
        shown = f"{dim}_{name}" if name in self.coordinates else name
        values = self._differing(name, dim, rows) if along is None else along
        dims = (self.kind.dim, dim) if along is None else (dim,)
        flat = [value for row in values for value in (row if isinstance(row, list) else [row])]
        attributes: dict[str, Any] = {"long_name": long_name, **_units_of(flat)}
        attributes |= {"comment": comment} if comment else {}
        if any(value == NO_COUNT for value in flat):
            attributes["_FillValue"] = NO_COUNT
        in_chunk = rows_of_chunk(values) if along is None else None
        return LabelArray(name=shown, dims=dims, values=values, attributes=attributes, rows=in_chunk, auxiliary=True)

    def _differing(self, name: str, dim: str, rows: Sequence[Row]) -> list[list[Any]]:
        """The values of a coordinate in which the runs differ, one list per run."""
        layouts = {id(row.layout): row.layout for row in rows}
        values_of = {key: layout.extras[name][1] if name in layout.extras else () for key, layout in layouts.items()}
        missing = missing_of([value for values in values_of.values() for value in values])
        of_layout: dict[int, list[Any]] = {}
        for key, values in values_of.items():
            known = dict(zip(layouts[key].labels[dim], values, strict=False))
            of_layout[key] = [known.get(label, missing) for label in self.labels[dim]]
        return [of_layout[id(row.layout)] for row in rows]

    def _add_variable(self, group: zarr.Group, name: str, variable: Variable, rows: int) -> None:
        shape = tuple(len(self.labels[dim]) for dim in variable.dims)
        group.create_array(
            name,
            shape=(rows, *shape),
            chunks=chunk_shape(variable, shape),
            dtype=variable.dtype,
            fill_value=variable.fill,
            dimension_names=(self.kind.dim, *variable.dims),
            attributes=dict(variable.attributes),  # type: ignore[arg-type]
            compressors=CHECKED,
        )

    def _sources(self, rows: Sequence[Row], taken: Sequence[Taken]) -> Iterator[LabelArray]:
        """Add all settings of every row, and the sources of its values."""
        yield from _keys(self.kind, rows, taken)
        for name, column in self.settings.items():
            values = [row.settings.get(name, column.missing) for row in rows]
            yield _along_rows(self.kind, name, values, self._described(name, values))
        for name in LIVE[1:] if self.listed else LIVE[1:-1]:
            values = [getattr(one, name) for one in taken]
            in_chunk = TRAINED_ROWS if name == "trained" else None
            yield _along_rows(self.kind, name, values, {"long_name": _LONG_NAMES[name]}, in_chunk)
        for name in dict.fromkeys(name for row in rows for name in row.provenance if name not in LIVE):
            values = [row.provenance.get(name, "") for row in rows]
            yield _along_rows(self.kind, name, values, {"long_name": name.replace("_", " ")})


_LONG_NAMES = {
    "computed_on": "what it was trained on",
    "results": "what the values are of: other checkpoints have another id",
    "parts": "objects that the values were taken from",
    "contents": "digest of these objects",
    "objects": "names of these objects",
    "trained": "what its manifest says, and by which tag that one is known again",
}


def _keys(kind: RowKind, rows: Sequence[Row], taken: Sequence[Taken]) -> Iterator[LabelArray]:
    yield _along_rows(kind, kind.dim, [row.key for row in rows], {"long_name": kind.long_name})
    attributes = {"long_name": f"how far the {kind.dim} is", "role": PROVENANCE}
    yield _along_rows(kind, "status", [one.status for one in taken], attributes, auxiliary=True)


def _along_rows(
    kind: RowKind,
    name: str,
    values: Sequence[Any],
    attributes: Mapping[str, Any],
    rows: int | None = None,
    auxiliary: bool = False,
) -> LabelArray:
    """A column with a value for each row."""
    return LabelArray(
        name=name,
        dims=(kind.dim,),
        values=values,
        attributes=attributes,
        rows=rows or rows_of_chunk(values),
        auxiliary=auxiliary,
    )


def _units_of(values: Sequence[Any]) -> dict[str, str]:
    """The units of plain numbers; text and flags have none."""
    return {"units": "1"} if np.asarray(values).dtype.kind in "iuf" else {}


def _columns(every: Sequence[Mapping[str, Any]]) -> dict[str, Column]:
    columns: dict[str, Column] = {}
    for name in dict.fromkeys(name for settings in every for name in settings):
        known = [settings[name] for settings in every if name in settings]
        missing = "" if any(isinstance(value, str) for value in known) else float("nan")
        whole = known if len(known) == len(every) else [*known, missing]
        columns[name] = Column(missing=missing, kind=np.asarray(whole).dtype.kind)
    return columns


def chunk_shape(variable: Variable, shape: tuple[int, ...]) -> tuple[int, ...]:
    """The chunks of a variable that has this shape in one run.

    Whole runs, as many as fit CHUNK_BYTES; a variable larger than LARGEST_CHUNK in one run is split along its layers or
    pairs and along the dimensions that it names, as far as needed.
    """
    inner, item = list(shape), np.dtype(variable.dtype).itemsize
    cuts = dict.fromkeys(("layer", "pair", "attention"), 1) | dict(variable.chunks)
    for place, dim in enumerate(variable.dims):
        if np.prod(inner) * item > LARGEST_CHUNK and dim in cuts:
            inner[place] = min(inner[place], cuts[dim])
    size = max(1, int(np.prod(inner)) * item)
    return (min(MOST_ROWS, max(1, CHUNK_BYTES // size)), *inner)
