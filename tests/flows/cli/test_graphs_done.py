"""`specdyn connect` and `specdyn tickets` where nothing is left: they say so, and start and write nothing."""

import shutil
from pathlib import Path

import fsspec
import pytest
import xarray as xr
from typer.testing import CliRunner

from helpers.branched import COMMANDS, carry_out, graph_in
from helpers.servers import S3Server
from specdyn.flows.cli.app import app
from specdyn.storage.places import Store

KINDS = pytest.mark.parametrize("which", COMMANDS)
SAID = {
    "connect": "1 pair already done: nothing to do",
    "tickets": "4 tickets already done: nothing to do",
}
PAGES = {"connect": "connectivity.html", "tickets": "tickets.html"}


def ask(which: str, *more: str, store: Store) -> str:
    """All that the command prints, on one line."""
    result = CliRunner().invoke(app, [*COMMANDS[which], *more, "--store", store.url], env={"COLUMNS": "300"})
    assert result.exit_code == 0, result.output
    return " ".join(result.output.split())


def files(folder: Path) -> dict[str, tuple[int, int]]:
    """Every file and folder below, with size and time of writing."""
    return {str(path.relative_to(folder)): (path.stat().st_size, path.stat().st_mtime_ns) for path in folder.rglob("*")}


@KINDS
def test_a_call_with_nothing_left_says_where_everything_is_and_touches_no_file(which: str, tmp_path: Path) -> None:
    graph, store = graph_in(str(tmp_path / "store"), which)
    carry_out(graph, store, report=True)
    before = files(tmp_path)
    said = ask(which, store=store)
    assert SAID[which] in said and f"results {store}/studies/" in said and PAGES[which] in said
    assert "starting Prefect" not in said
    assert files(tmp_path) == before


@KINDS
def test_a_cube_alone_is_made_again_without_engines(which: str, tmp_path: Path) -> None:
    graph, store = graph_in(str(tmp_path / "store"), which)
    carry_out(graph, store, report=True)
    cube = graph.cube(store)
    with xr.open_datatree(cube, engine="zarr", zarr_format=3) as tree:
        before = tree.load()
    shutil.rmtree(cube)
    said = ask(which, store=store)
    assert (
        f"{SAID[which]} but to gather them" in said and "starting Prefect" not in said and "decompositions" not in said
    )
    with xr.open_datatree(cube, engine="zarr", zarr_format=3) as tree:
        xr.testing.assert_identical(tree.load(), before)


@KINDS
def test_a_plan_starts_nothing_and_makes_no_store(which: str, tmp_path: Path) -> None:
    said = ask(which, "--plan", store=Store(str(tmp_path / "store")))
    assert "of checkpoints to write." in said and "starting Prefect" not in said
    assert list(tmp_path.iterdir()) == []


@KINDS
def test_a_call_with_nothing_left_only_reads_from_object_storage(
    which: str, s3_store: Store, s3_server: S3Server, tmp_path: Path
) -> None:
    carry_out(*graph_in(str(tmp_path / "store"), which), report=True)
    fsspec.filesystem("s3").put(f"{tmp_path}/store/", f"{s3_store}/", recursive=True)
    with s3_server.counted() as requests:
        assert SAID[which] in ask(which, store=s3_store)
    assert requests and {request.split()[0] for request in requests} <= {"GET", "HEAD"}
