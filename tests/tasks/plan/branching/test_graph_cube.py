"""Whether a graph has all that is asked of it, told from the store alone; and what is written where it has not."""

import dataclasses
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from helpers.branched import NAME, carry_out, graph_in
from specdyn.storage.access.objects import StoreError
from specdyn.storage.checkpoints import mark_damaged, read_manifest
from specdyn.storage.places import Store
from specdyn.storage.probe import require_store
from specdyn.storage.studies import record_study
from specdyn.tasks.connect import rows
from specdyn.tasks.evaluation.examples import load_examples
from specdyn.tasks.plan.branching import cube as branching_cube
from specdyn.tasks.plan.branching.graph import Graph
from specdyn.tasks.plan.branching.records import record_of
from specdyn.tasks.plan.gathering import finished_results, gather
from specdyn.tasks.plan.plan import make_plan
from specdyn.tasks.spectra.network_layout import network_layout
from specdyn.tasks.training.branches import maskable
from specdyn.tasks.training.training import Batches

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
    Path(Store(str(store)).study(graph.name, graph.kind)).unlink()
    fewer = dataclasses.replace(graph, pairs=graph.pairs[:-1], tickets=graph.tickets[:-1])
    record_study(Store(str(store)), dataclasses.replace(record_of(fewer), kind=graph.kind))


OF_THE_REPORT = (_figure, _older_figures)


@KINDS
@pytest.mark.parametrize("lose", [*OF_THE_REPORT, _cube, _measurement, _run, _record])
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


def test_steps_of_tickets_have_epoch_learning_rate_and_the_examples_that_were_seen(tmp_path: Path) -> None:
    settings = {"steps": 20, "checkpoint_every": 5, "batch_size": 32, "schedule": "warmup", "warmup": 16}
    graph, store = graph_in(str(tmp_path), "tickets", settings={**settings, "learning_rate": 0.01})
    carry_out(graph, store)
    cube = xr.open_zarr(graph.cube(store))
    (dense,) = graph.trunks
    examples = load_examples(dense, store)["train"]
    # Counted batch by batch, as training takes them; a ticket begins where its dense run was.
    batches = Batches(dense, examples)
    sizes = [len(batches(number).targets) for number in range(20)]
    steps = [10, 15, 20]
    assert cube["step"].values.tolist() == steps
    assert cube["examples_seen"].values.tolist() == [sum(sizes[:step]) for step in steps]
    assert cube["examples_seen"].dtype.kind == "i" and sum(sizes) < 20 * 32
    np.testing.assert_allclose(cube["epoch"], np.array(steps) / np.ceil(len(examples.targets) / 32), rtol=1e-15)
    np.testing.assert_allclose(cube["learning_rate_at"], 0.01 * np.array([10 / 16, 15 / 16, 1.0]), rtol=1e-15)
    for name in ("epoch", "examples_seen", "learning_rate_at"):
        assert cube[name].attrs["long_name"] and cube[name].attrs["units"] == "1"


def test_an_older_cube_of_tickets_gets_the_coordinates_of_its_steps_with_the_next_call(
    copied: Callable[[str], tuple[Graph, Path]], monkeypatch: pytest.MonkeyPatch
) -> None:
    graph, folder = copied("tickets")
    store = Store(str(folder))
    whole = xr.open_zarr(graph.cube(store)).load()
    shutil.rmtree(graph.cube(store))
    with monkeypatch.context() as earlier:
        earlier.setattr(rows, "step_coordinates", lambda *_: {})
        earlier.setattr(branching_cube, "STEP_COORDINATES_VERSION", 0)
        rows.ticket_layout.cache_clear()
        gather(graph, store, report=False)
    rows.ticket_layout.cache_clear()
    beside = ["epoch", "examples_seen", "learning_rate_at"]
    xr.testing.assert_equal(xr.open_zarr(graph.cube(store)).load(), whole.drop_vars(beside))
    assert not finished_results(graph, store, report=False), "so that a call gathers it"
    assert gather(graph, store, report=False)[1]
    xr.testing.assert_identical(xr.open_zarr(graph.cube(store)).load(), whole)


def test_a_graph_with_a_run_that_failed_is_never_done(tmp_path: Path) -> None:
    settings = {"steps": 20, "checkpoint_every": 10, "learning_rate": 1e30}
    graph, store = graph_in(str(tmp_path), "connect", settings=settings)
    with pytest.raises(Exception, match="NaN or infinite"):
        carry_out(graph, Store(store.url))
    assert not make_plan(graph, store, estimate=False).todo and not finished_results(graph, store, report=False)


@KINDS
def test_a_record_that_cannot_be_read_is_named_and_not_replaced(
    which: str, copied: Callable[[str], tuple[Graph, Path]]
) -> None:
    graph, folder = copied(which)
    store = Store(str(folder))
    place = Path(store.study(graph.name, graph.kind))
    place.write_text("{")
    assert not finished_results(graph, store, report=False)
    with pytest.raises(StoreError, match=f"{place} is not the record of a study .* delete it"):
        carry_out(graph, store)
    place.unlink()
    carry_out(graph, store)
    assert finished_results(graph, store, report=False)


def test_a_call_for_other_lines_adds_rows_and_whoever_has_the_cube_open_keeps_its_own(
    copied: Callable[[str], tuple[Graph, Path]],
) -> None:
    graph, folder = copied("connect")
    store = Store(str(folder))
    before = xr.open_zarr(graph.cube(store))
    values = before.copy().load()
    # The same branches, five points, and a curve: other places on the line, and variables that there were none of.
    other = dataclasses.replace(
        graph, pairs=tuple(dataclasses.replace(pair, points=5, curve_steps=2) for pair in graph.pairs)
    )
    assert not finished_results(other, store, report=False)
    carry_out(other, store)
    assert finished_results(other, store, report=False) and finished_results(graph, store, report=False)
    xr.testing.assert_identical(before.load(), values)
    after = xr.open_zarr(graph.cube(store)).load()
    assert after["pair"].values.tolist() == [pair.pair_id for pair in (*graph.pairs, *other.pairs)]
    assert after["alpha"].values.tolist() == sorted({*graph.pairs[0].alphas, *other.pairs[0].alphas})
    first = after.isel(pair=slice(len(graph.pairs))).sel(alpha=values["alpha"])
    for name, variable in values.data_vars.items():
        xr.testing.assert_equal(first[name], variable)
    assert first["curve_loss"].isnull().all()
    second = after.isel(pair=slice(len(graph.pairs), None)).sel(alpha=list(other.pairs[0].alphas))
    assert second["curve_loss"].notnull().all()
    # Of the places on both lines the metrics are those of the same weights.
    xr.testing.assert_equal(
        second["loss"].sel(alpha=[0.0, 0.5, 1.0]).drop_vars("pair"),
        first["loss"].sel(alpha=[0.0, 0.5, 1.0]).drop_vars("pair"),
    )


def test_the_cube_follows_its_units(tmp_path: Path) -> None:
    graph, store = graph_in(str(tmp_path), "connect", orders=[3, 4, 5])
    require_store(store.url)
    graph.record(store)
    following = graph.results(store).following(None)
    following.update(set())
    statuses = []
    for item in graph.items(store):
        assert item.unit
        item.unit.function(*item.unit.arguments)
        if item.kind == "pairs":
            following.update({item.unit.row})
            statuses.append(xr.open_zarr(graph.cube(store))["status"].values.tolist())
    assert statuses == [["done"] * i + ["planned"] * (3 - i) for i in (1, 2, 3)]
    assert xr.open_zarr(graph.cube(store))["barrier_loss"].notnull().all()
    assert not finished_results(graph, store, report=False), "it is not said to be whole before the end of the call"
    before = Path(graph.cube(store), "loss").stat().st_mtime_ns
    gather(graph, store, report=False)
    assert finished_results(graph, store, report=False)
    assert Path(graph.cube(store), "loss").stat().st_mtime_ns == before, "nothing is written again"
