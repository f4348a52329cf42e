"""Whether a graph has all that is asked of it, told from the store alone; and what is written where it has not."""

import dataclasses
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
import xarray as xr

from helpers.branched import NAME, carry_out, graph_in
from specdyn.storage.checkpoints import mark_damaged, read_manifest
from specdyn.storage.places import Store
from specdyn.storage.studies import record_study
from specdyn.tasks.plan.branching.graph import Graph
from specdyn.tasks.plan.branching.records import record_of
from specdyn.tasks.plan.gathering import finished_results, gather
from specdyn.tasks.plan.plan import make_plan
from specdyn.tasks.spectra.network_layout import network_layout
from specdyn.tasks.training.branches import maskable

KINDS = pytest.mark.parametrize("which", ["connect", "tickets"])


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Graph, Store]]:
    """Each graph in a store that has all of it."""
    found = {}
    for which in ("connect", "tickets"):
        graph, store = graph_in(str(tmp_path_factory.mktemp(which) / "store"), which)
        assert not finished_results(graph, store, report=True)
        assert not Path(store.url).exists()
        carry_out(graph, store, report=True)
        found[which] = graph, store
    return found


@pytest.fixture
def copied(stores: dict[str, tuple[Graph, Store]], tmp_path: Path) -> Callable[[str], tuple[Graph, Path]]:
    """A copy of such a store."""

    def copy(which: str) -> tuple[Graph, Path]:
        graph, store = stores[which]
        return graph, Path(shutil.copytree(store.url, tmp_path / which))

    return copy


def files(folder: Path) -> dict[str, tuple[int, int]]:
    """Every file and folder below, with size and time of writing."""
    return {str(path.relative_to(folder)): (path.stat().st_size, path.stat().st_mtime_ns) for path in folder.rglob("*")}


def test_no_unit_of_a_graph_decomposes_what_another_did(tmp_path: Path) -> None:
    lines, store = graph_in(str(tmp_path), "connect")
    made = carry_out(lines, store)
    assert Counter(kind for kind, _ in made) == {"trunks": 1, "branches": 2, "factors": 2, "ends": 2, "pairs": 1}
    layers = len(network_layout(lines.trunks[0]).layers)
    # Two ends, and nine points inside the line.
    assert sum(work.decompositions for _, work in made) == (2 + 9) * layers
    tickets, _ = graph_in(store.url, "tickets")
    made = carry_out(tickets, store)
    assert Counter(kind for kind, _ in made) == {"branches": 4, "factors": 1, "tickets": 4}
    # The dense run at steps 10 and 20, and each of four tickets at these and at what its mask leaves of the dense end.
    assert sum(work.decompositions for _, work in made) == (2 + 4 * 3) * len(maskable(tickets.trunks[0]))


@KINDS
def test_what_is_done_is_known_by_looking_and_gathering_it_again_writes_nothing(
    which: str, stores: dict[str, tuple[Graph, Store]]
) -> None:
    graph, store = stores[which]
    before = files(Path(store.url))
    assert finished_results(graph, store, report=True) and finished_results(graph, store, report=False)
    gather(graph, store, report=True)
    assert files(Path(store.url)) == before


def _figure(graph: Graph, store: Path) -> None:
    Path(graph.results(Store(str(store))).report[0]).unlink()


def _older_figures(graph: Graph, store: Path) -> None:
    Path(graph.results(Store(str(store))).note).write_text('{"contents": "of an earlier cube"}')


def _cube(graph: Graph, store: Path) -> None:
    shutil.rmtree(graph.cube(Store(str(store))))


def _measurement(graph: Graph, store: Path) -> None:
    next((store / "results" / ("tickets" if graph.tickets else "pairs") / NAME).glob("*.safetensors")).unlink()


def _run(graph: Graph, store: Path) -> None:
    manifest = read_manifest(Store(str(store)).run(NAME, graph.branches[0].run_id))
    assert manifest is not None
    mark_damaged(Store(str(store)), manifest, "a checkpoint does not verify")


def _record(graph: Graph, store: Path) -> None:
    fewer = dataclasses.replace(graph, pairs=graph.pairs[1:], tickets=graph.tickets[1:])
    record_study(Store(str(store)), dataclasses.replace(record_of(fewer), kind=graph.kind))


def _unreadable_record(graph: Graph, store: Path) -> None:
    Path(Store(str(store)).study(graph.name, graph.kind)).write_text("{")


OF_THE_REPORT = (_figure, _older_figures)


@KINDS
@pytest.mark.parametrize("lose", [*OF_THE_REPORT, _cube, _measurement, _run, _record, _unreadable_record])
def test_a_graph_that_lacks_anything_is_not_done_and_the_next_call_makes_it_whole(
    which: str, lose: Callable[[Graph, Path], None], copied: Callable[[str], tuple[Graph, Path]]
) -> None:
    graph, store = copied(which)
    whole = xr.open_zarr(graph.cube(Store(str(store)))).load()
    lose(graph, store)
    assert not finished_results(graph, Store(str(store)), report=True)
    assert bool(finished_results(graph, Store(str(store)), report=False)) == (lose in OF_THE_REPORT)
    carry_out(graph, Store(str(store)), report=lose in OF_THE_REPORT)
    assert finished_results(graph, Store(str(store)), report=lose in OF_THE_REPORT)
    xr.testing.assert_identical(xr.open_zarr(graph.cube(Store(str(store)))).load(), whole)


def test_a_graph_with_a_run_that_failed_is_never_done(tmp_path: Path) -> None:
    settings = {"steps": 20, "checkpoint_every": 10, "learning_rate": 1e30}
    graph, store = graph_in(str(tmp_path), "connect", settings=settings)
    with pytest.raises(Exception, match="NaN or infinite"):
        carry_out(graph, Store(store.url))
    assert not make_plan(graph, store, estimate=False).todo and not finished_results(graph, store, report=False)
