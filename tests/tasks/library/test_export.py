"""Results as tables and as netCDF: every value read back, of every kind of study, with bounded blocks."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import netCDF4
import numpy as np
import pandas as pd
import pyarrow.parquet
import pytest
import torch
import xarray as xr
from safetensors.torch import save_file
from typer.testing import CliRunner

import specdyn as sd
from helpers.cubes import layout_of, values_of, write_cube, write_row
from specdyn.flows.cli.app import app
from specdyn.storage.access import objects
from specdyn.storage.places import Store
from specdyn.storage.probe import require_store
from specdyn.storage.query import DamagedCube, open_results
from specdyn.storage.rows import TICKETS
from specdyn.storage.schema import Variable
from specdyn.storage.studies import StudyRecord, record_study
from specdyn.tasks.library import export as exporting
from specdyn.tasks.library.export import FORMATS, Format, export
from specdyn.tasks.library.frames import blocks_of, frame_of, to_dataframe

COUNTED = Variable(dims=("layer", "step"), long_name="spikes", dtype="int32")


def study(store: Store, runs: int = 3) -> Store:
    """A sweep `hand` of runs made by hand: two are done, the others not begun."""
    require_store(store.url)
    variables = {**layout_of().variables, "spikes": COUNTED}
    rows = []
    for i in range(runs):
        layout = layout_of(variables=variables, run_id=f"run{i}")
        values = values_of(layout, i)
        values["spikes"][0, 0] = -1
        done = None if i < runs - 1 else 0
        rows.append(write_row(store, layout, values, done, weight_decay=i / 10, seed=i))
    record_study(store, StudyRecord(name="hand", kind="sweep", experiment="modular_addition", specs=("{}",)))
    write_cube(store.cube("hand"), rows, {"title": 'Ä, "B"', "analyses": {"spectrum": 1}})
    return store


@pytest.fixture
def store(local_store: Store) -> Store:
    return study(local_store)


def expected(tree: xr.DataTree, group: str, name: str) -> dict[tuple[Any, ...], float]:
    """Every value of a variable that is one, by its labels."""
    data = tree[group].to_dataset()[name].load()
    labels = [data[dim].values.tolist() for dim in data.dims]
    return {
        tuple(of[i] for of, i in zip(labels, place, strict=True)): float(value)
        for place, value in np.ndenumerate(data.values)
        if not np.isnan(value)
    }


def in_table(frame: pd.DataFrame, dims: list[str], name: str) -> dict[tuple[Any, ...], float]:
    there = frame[frame[name].notna()]
    keys = there[dims].astype(object).itertuples(index=False, name=None)
    return dict(zip(keys, there[name].astype(float), strict=True))


def read(path: Path) -> pd.DataFrame:
    if path.suffix == ".parquet":
        return pyarrow.parquet.read_table(path).to_pandas()
    return pd.read_csv(path, dtype={"run": str})


@pytest.mark.parametrize("to", ["csv", "parquet"])
@pytest.mark.parametrize("block", [1, 20, 10**6])
def test_tables_have_every_value_and_no_others(to: Format, block: int, store: Store, tmp_path: Path) -> None:
    written = export(store.url, "hand", to, str(tmp_path / "out"), block=block)
    tree = open_results(store.cube("hand"))
    folder = tmp_path / "out" / "results"
    assert sorted(written) == sorted(map(str, (path for path in folder.rglob("*") if path.is_file())))
    assert list((tmp_path / "out").iterdir()) == [folder], "nothing is left of what was incomplete"
    tables = {"layers": ["effective_rank", "singular_value", "spikes"], "pairs": ["alignment"], "metrics": ["loss"]}
    for group, names in tables.items():
        for name in names:
            dims = list(map(str, tree[group][name].dims))
            frame = read(folder / group / f"{'-'.join(dims)}.{to}")
            found, values = in_table(frame, dims, name), expected(tree, group, name)
            assert found.keys() == values.keys()
            assert {key: np.float32(value) for key, value in found.items()} == values
    columns = json.loads((folder / "columns.json").read_text())
    of_table = columns["tables"][f"layers/run-layer-step.{to}"]
    frame = read(folder / "layers" / f"run-layer-step.{to}")
    assert of_table["rows"] == len(frame) == 2 * 2 * 3
    assert list(of_table["columns"]) == list(frame.columns)
    assert list(frame.columns)[:6] == ["run", "seed", "weight_decay", "status", "layer", "step"]
    assert of_table["columns"]["effective_rank"] == {
        "is": "value",
        "long_name": "effective rank / rank",
        "units": "1",
        "comment": "METHOD 4.3",
    }
    assert of_table["columns"]["collapse"]["flag_meanings"] == "missing alive collapsed"
    assert [of_table["columns"][name]["is"] for name in ("run", "seed", "status")] == ["label", "setting", "status"]
    assert columns["study"]["title"] == 'Ä, "B"'
    assert dict(zip(frame["run"], frame["weight_decay"], strict=True)) == {"run0": 0.0, "run1": 0.1}
    runs = read(folder / "runs" / f"run.{to}")
    assert runs["status"].tolist() == ["done", "done", "planned"]
    assert read(folder / "layers" / f"layer.{to}")["rows"].tolist() == [4, 2]
    if to == "parquet":
        field = pyarrow.parquet.read_schema(folder / "layers" / "run-layer-step.parquet").field("effective_rank")
        assert field.metadata[b"long_name"] == b"effective rank / rank" and str(field.type) == "float"
        assert pyarrow.parquet.ParquetFile(folder / "layers/run-layer-step.parquet").num_row_groups == (
            1 if block > 100 else 2 if block == 20 else 12
        )


def test_netcdf_is_the_cube(store: Store, tmp_path: Path) -> None:
    (written,) = export(store.url, "hand", "netcdf", str(tmp_path), block=7)
    cube = open_results(store.cube("hand"))
    with xr.open_datatree(written, engine="netcdf4") as found:
        assert [node.path for node in found.subtree] == [node.path for node in cube.subtree]
        for node in cube.subtree:
            ours, theirs = node.to_dataset(), found[node.path].to_dataset()
            xr.testing.assert_equal(ours, theirs)
            assert set(ours.coords) == set(theirs.coords)
            for name, variable in ours.variables.items():
                attributes = {key: np.asarray(of).tolist() for key, of in theirs[name].attrs.items()}
                assert attributes == variable.attrs
                numbers = variable.dtype.kind in "fiub"
                assert not numbers or theirs[name].dtype == variable.dtype
        assert found.attrs["title"] == 'Ä, "B"' and json.loads(found.attrs["analyses"]) == {"spectrum": 1}
    with netCDF4.Dataset(written) as file:
        assert file["layers"]["run"].dtype is str, "texts of any length, not arrays of characters"
        assert file["layers"]["spikes"].dtype == np.int32 and file["layers"]["spikes"]._FillValue == -1
        assert file["layers"]["effective_rank"].dtype == np.float32


def test_some_variables_are_exported_and_unknown_ones_refused(store: Store, tmp_path: Path) -> None:
    written = export(store.url, "hand", "csv", str(tmp_path / "a"), ("loss", "effective_rank"))
    assert [Path(path).name for path in written] == ["columns.json", "run-layer-step.csv", "run-split-step.csv"]
    header = (tmp_path / "a/results/layers/run-layer-step.csv").read_text().splitlines()[0]
    assert header == "run,seed,weight_decay,status,layer,step,effective_rank"
    export(store.url, "hand", "netcdf", str(tmp_path / "b"), ("loss",))
    with xr.open_datatree(tmp_path / "b/results.nc", engine="netcdf4") as found:
        assert [str(name) for node in found.subtree for name in node.data_vars] == ["loss"]
    with pytest.raises(ValueError, match=r"unknown variable 'los'.*did you mean 'loss'"):
        export(store.url, "hand", "csv", str(tmp_path / "c"), ("los",))
    with pytest.raises(ValueError, match=r"no results called 'other' in .*; it has: hand"):
        export(store.url, "other", "csv", str(tmp_path / "c"))
    with pytest.raises(ValueError, match="unknown format 'xlsx': known are csv, netcdf, parquet"):
        export(store.url, "hand", "xlsx", str(tmp_path / "c"))  # type: ignore[arg-type]
    assert not (tmp_path / "c").exists()


@pytest.mark.parametrize("to", FORMATS)
def test_no_more_than_a_block_is_held(
    to: Format, local_store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study(local_store, runs=12)
    tree = open_results(local_store.cube("hand"))
    largest, total, most = 0, 0, 60
    blocks = blocks_of

    def counted(*args: Any) -> Iterator[Any]:
        nonlocal largest, total
        for block in blocks(*args):
            size = sum(of.size for of in block.values.values())
            largest, total = max(largest, size), total + size
            yield block

    for module in ("export", "netcdf"):
        monkeypatch.setattr(f"specdyn.tasks.library.{module}.blocks_of", counted)
    export(local_store.url, "hand", to, str(tmp_path), block=most)
    assert 0 < largest <= most
    values = sum(of.size for node in tree.subtree for of in node.data_vars.values() if of.dtype.kind in "fiu")
    assert total >= values > 10 * most


@pytest.mark.parametrize("to", FORMATS)
def test_a_damaged_cube_is_named_and_leaves_no_files(to: Format, store: Store, tmp_path: Path) -> None:
    (chunk,) = [path for path in Path(store.cube("hand"), "pairs/alignment/c").rglob("*") if path.is_file()]
    chunk.write_bytes(chunk.read_bytes()[:-9])
    for _ in range(2):
        with pytest.raises(DamagedCube, match=store.cube("hand")):
            export(store.url, "hand", to, str(tmp_path / "out"))
        assert list((tmp_path / "out").iterdir()) == []
        chunk.unlink(missing_ok=True)


def test_a_package_that_is_missing_is_named_before_anything_is_read(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exporting.importlib.util, "find_spec", lambda _: None)
    for to, package in (("parquet", "pyarrow"), ("netcdf", "netCDF4")):
        with pytest.raises(ValueError, match=rf"needs {package}: pip install 'specdyn\[export\]'"):
            export(store.url, "hand", to, str(tmp_path / "out"))  # type: ignore[arg-type]
    assert not (tmp_path / "out").exists()
    assert export(store.url, "hand", "csv", str(tmp_path / "out"), ("loss",))


def test_tickets_series_and_several_cubes_under_one_name_are_exported(store: Store, tmp_path: Path) -> None:
    layout = layout_of(
        variables={"density": Variable(dims=("layer", "step"), long_name="density")}, run_id="t", steps=(5,)
    )
    values = {"density": np.array([[0.5], [0.25]], np.float32)}
    row = write_row(store, layout, values, mask="random", density_asked=0.3)
    from specdyn.storage.cube import CubeWriter

    CubeWriter(url=store.tickets("hand"), kind=TICKETS, facts=None, lease=None).write([row], {})
    record_study(store, StudyRecord(name="hand", kind="tickets", experiment="modular_addition", tickets=("t",)))
    written = export(store.url, "hand", "csv", str(tmp_path / "out"))
    assert f"{tmp_path}/out/results/layers/run-layer-step.csv" in written
    frame = read(tmp_path / "out/tickets/ticket-layer-step.csv")
    assert frame.values.tolist() == [
        ["t", 0.3, "random", "done", "in.weight", 5, 0.5],
        ["t", 0.3, "random", "done", "out.weight", 5, 0.25],
    ]
    source = tmp_path / "checkpoints"
    source.mkdir()
    for step in (1, 2):
        save_file({"up.weight": step * torch.eye(3)}, source / f"step={step}.safetensors")
    runner = CliRunner()
    assert runner.invoke(app, ["analyse", str(source), "--name", "foreign", "--store", store.url]).exit_code == 0
    done = runner.invoke(
        app, ["export", "foreign", "--store", store.url, "--out", str(tmp_path / "f"), "--to", "parquet"]
    )
    assert done.exit_code == 0, done.output
    ranks = read(tmp_path / "f/results/layers/run-layer-step-rank.parquet")
    assert ranks.groupby("step", observed=True)["singular_value"].unique().map(list).to_dict() == {1: [1.0], 2: [2.0]}
    assert ranks["series"].unique().tolist() == ["checkpoints"]


@pytest.mark.integration
@pytest.mark.parametrize("to", FORMATS)
def test_a_study_on_s3_is_exported_to_s3(to: Format, s3_store: Store, tmp_path: Path) -> None:
    study(s3_store)
    written = export(s3_store.url, "hand", to, f"{s3_store}-out")
    local = export(s3_store.url, "hand", to, str(tmp_path))
    assert [objects.exists(url) for url in written] == [True] * len(local)
    if to == "csv":
        for ours, theirs in zip(written, local, strict=True):
            assert objects.read(ours) == Path(theirs).read_bytes()


def test_a_frame_of_variables_is_tidy(store: Store) -> None:
    tree = sd.open(store.url, "hand")
    frame = sd.to_dataframe(tree, "effective_rank", "spikes", "collapse")
    assert in_table(frame, ["run", "layer", "step"], "effective_rank") == expected(tree, "layers", "effective_rank")
    assert str(frame["spikes"].dtype) == "Int64" and frame["spikes"].isna().sum() == 2
    assert frame["collapse"].isin([1, 2]).all() and frame["status"].unique().tolist() == ["done"]
    own = tree["layers"].to_dataset().specdyn.to_dataframe("effective_rank", "spikes", "collapse")
    pd.testing.assert_frame_equal(frame, own)
    with pytest.raises(ValueError, match=r"of the same dimensions \(loss has run, split, step; effective_rank has"):
        to_dataframe(tree, "loss", "effective_rank")
    with pytest.raises(ValueError, match="unknown variable 'nothing'"):
        to_dataframe(tree, "nothing")
    none = tree["layers"].to_dataset().isel(run=[2])
    assert to_dataframe(none, "effective_rank").shape == (0, 7)


def test_a_row_of_flags_alone_is_one_where_a_flag_is_set() -> None:
    flags = xr.Dataset(
        {"collapse": (("layer", "step"), np.array([[0, 1], [2, 0]], np.int8), {"flag_values": [0, 1, 2]})},
        {"layer": ["a", "b"], "step": [0, 1]},
    )
    (block,) = blocks_of(flags, ["collapse"])
    assert frame_of(flags, block).values.tolist() == [["a", 1, 1], ["b", 0, 2]]


def test_rows_without_a_cube_are_refused_by_name(local_store: Store, tmp_path: Path) -> None:
    require_store(local_store.url)
    record_study(local_store, StudyRecord(name="new", kind="sweep", experiment="modular_addition", specs=("{}",)))
    with pytest.raises(ValueError, match=r"no results called 'new' in .*; it has no results yet"):
        export(local_store.url, "new", "csv", str(tmp_path / "out"))
