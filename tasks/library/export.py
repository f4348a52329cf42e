"""Exports the cubes of a study for other programs: tidy tables as CSV or Parquet, or netCDF."""

import contextlib
import importlib.util
import json
import shutil
import tempfile
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from specdyn.models.spec.checks import require_known
from specdyn.storage.access import objects
from specdyn.storage.places import Store
from specdyn.storage.query import open_results, reading
from specdyn.storage.rows import row_dim
from specdyn.storage.studies import cube_of, no_results, study_names
from specdyn.tasks.library.frames import BLOCK, axes_of, blocks_of, frame_of

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

Format = Literal["csv", "parquet", "netcdf"]
FORMATS: tuple[Format, ...] = get_args(Format)
NEEDS = {"csv": "", "parquet": "pyarrow", "netcdf": "netCDF4"}
COLUMNS = "columns.json"
"""The file that describes the columns of every table."""


def export(
    store: str, study: str, to: Format, folder: str, variables: Sequence[str] = (), block: int = BLOCK
) -> list[str]:
    """Write the cubes of a study to a folder or an s3:// URL, and return the URLs of the files.

    `csv` and `parquet` are tables in long format, `CUBE/GROUP/DIMENSIONS.csv`: one table per set of dimensions, one row
    per combination of labels that has a value, with the settings in which runs differ and `status` as columns;
    `CUBE/columns.json` describes each column. `netcdf` is `CUBE.nc`, equal to the cube. CUBE is `results`,
    `connectivity` or `tickets`. Holds at most about `block` values at a time, and writes nothing to the folder until
    everything has been read. ValueError for an unknown study, format or variable, or a missing package; DamagedCube if
    results are damaged.
    """
    require_known("format", to, FORMATS)
    package = NEEDS[to]
    if package and importlib.util.find_spec(package) is None:
        raise ValueError(f"to={to!r} needs {package}: pip install 'specdyn[export]'")
    cubes = cubes_of(Store(objects.normalise(store)), study)
    folder = objects.normalise(folder)
    trees = {name: open_results(url) for name, url in cubes.items()}
    known = {str(name) for tree in trees.values() for node in tree.subtree for name in node.data_vars}
    for name in variables:
        require_known("variable", name, known)
    objects.require_writable(folder)
    with _staged(folder) as staging:
        for name, tree in trees.items():
            with reading(cubes[name]):
                if to == "netcdf":
                    from specdyn.tasks.library.netcdf import write_netcdf

                    write_netcdf(tree, staging / f"{name}.nc", variables, block)
                else:
                    _write_tables(tree, staging / name, to, variables, block)
        files = sorted(str(path.relative_to(staging)) for path in staging.rglob("*") if path.is_file())
        for file in files:
            objects.put_file(str(staging / file), f"{folder}/{file}")
    return [f"{folder}/{file}" for file in files]


def cubes_of(store: Store, study: str) -> dict[str, str]:
    """The URLs of a study's cubes by name; ValueError, listing the studies, if there are none."""
    known = study_names(store)
    urls = [cube_of(store, name, kind) for name, kind in known if name == study]
    found = {url.rsplit("/", 1)[-1].removesuffix(".zarr"): url for url in urls if objects.names(url)}
    if not found:
        without = "it has no results yet; studies are" if urls else "it has"
        raise no_results(study, store, (name for name, _ in known), without)
    return found


@contextlib.contextmanager
def _staged(folder: str) -> Iterator[Path]:
    """A folder for incomplete files: next to their destination, if that is local."""
    if objects.is_local(folder):
        staging = Path(folder) / f".{uuid.uuid4().hex}{objects.PARTIAL}"
        with objects.explained(folder):
            staging.mkdir(parents=True)
            try:
                yield staging
            finally:
                shutil.rmtree(staging, ignore_errors=True)
    else:
        with tempfile.TemporaryDirectory(prefix="specdyn-export-") as place:
            yield Path(place)


def tables_of(tree: "xr.DataTree", variables: Sequence[str] = ()) -> "dict[str, tuple[xr.Dataset, list[str]]]":
    """The tables of a cube by name, `GROUP/DIMENSIONS`: the data set of the group, and the variables.

    Coordinates along a dimension, such as the shape of a layer, form a table too.
    """
    tables: dict[str, tuple[xr.Dataset, list[str]]] = {}
    for node in tree.subtree:
        data = node.to_dataset()
        axes = set(axes_of(data, list(map(str, data.dims))))
        along = [name for name, of in data.coords.items() if name not in data.dims and name not in axes and of.dims]
        data = data.reset_coords(along)
        for name, of in data.data_vars.items():
            if of.dims and (not variables or name in variables):
                table = "/".join([*filter(None, [node.path.strip("/")]), "-".join(map(str, of.dims))])
                tables.setdefault(table, (data, []))[1].append(str(name))
    return tables


def _write_tables(tree: "xr.DataTree", folder: Path, to: Format, variables: Sequence[str], block: int) -> None:
    described: dict[str, Any] = {}
    for table, (data, names) in tables_of(tree, variables).items():
        path = folder / f"{table}.{to}"
        path.parent.mkdir(parents=True, exist_ok=True)
        columns = columns_of(data, names)
        frames = (frame_of(data, one) for one in blocks_of(data, names, block))
        write = _write_csv if to == "csv" else _write_parquet
        rows = write(path, frames, columns)
        described[f"{table}.{to}"] = {"rows": rows, "columns": columns}
    study = {name: _plain(value) for name, value in tree.attrs.items()}
    (folder / COLUMNS).write_text(json.dumps({"study": study, "tables": described}, indent=1))


def columns_of(data: "xr.Dataset", names: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Descriptions of a table's columns, in order: whether label, setting or value, long name, units and more."""
    dims = [str(dim) for dim in data[names[0]].dims]
    kinds: dict[str, str] = {}
    for dim in dims:
        kinds[dim] = "label"
        if dim == row_dim(data):
            kinds |= dict.fromkeys(axes_of(data, [dim]), "setting")
    kinds |= dict.fromkeys(names, "value")
    kinds |= {name: "status" for name in kinds if name == "status"}
    return {
        name: {"is": kind, **{key: _plain(value) for key, value in data[name].attrs.items()}}
        for name, kind in kinds.items()
    }


def _plain(value: Any) -> Any:
    """An attribute as a JSON value."""
    return value.tolist() if hasattr(value, "tolist") else value


def _write_csv(path: Path, frames: "Iterable[pd.DataFrame]", columns: Mapping[str, Any]) -> int:
    """Write blocks one after another under one heading; missing values are empty."""
    rows = 0
    with path.open("w", newline="", encoding="utf-8") as file:
        file.write(",".join(columns) + "\n")
        for frame in frames:
            frame.to_csv(file, index=False, header=False, lineterminator="\n")
            rows += len(frame)
    return rows


def _write_parquet(path: Path, frames: "Iterable[pd.DataFrame]", columns: Mapping[str, Any]) -> int:
    """Write a row group per block; the metadata of each field describe the column."""
    import pyarrow
    import pyarrow.parquet

    rows, writer = 0, None
    try:
        for frame in frames:
            if frame.empty:
                continue
            table = pyarrow.Table.from_pandas(frame, preserve_index=False)
            if writer is None:
                schema = pyarrow.schema([_field(of, columns[of.name]) for of in table.schema])
                writer = pyarrow.parquet.ParquetWriter(path, schema, compression="zstd")
            writer.write_table(table.cast(schema))
            rows += len(frame)
    finally:
        if writer is not None:
            writer.close()
    if writer is None:
        empty = pyarrow.table({name: pyarrow.nulls(0) for name in columns})
        pyarrow.parquet.write_table(empty, path)
    return rows


def _field(field: Any, described: Mapping[str, Any]) -> Any:
    """A field with its description; texts are dictionaries of strings in every block."""
    import pyarrow

    kind = field.type
    if pyarrow.types.is_dictionary(kind):
        kind = pyarrow.dictionary(pyarrow.int32(), pyarrow.string())
    said = {key: value if isinstance(value, str) else json.dumps(value) for key, value in described.items()}
    return pyarrow.field(field.name, kind, metadata=said)
