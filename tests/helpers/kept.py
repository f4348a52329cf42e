"""A small store with everything that a store can contain, made in this process."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
import xarray as xr
from safetensors.torch import save_file

from helpers.analysed import analyse, sweep_called
from helpers.branched import carry_out, graph_in
from specdyn.models.datasets.base import get_dataset
from specdyn.storage.places import Store
from specdyn.storage.probe import require_store
from specdyn.storage.query import open_results, reading
from specdyn.tasks.data.prepare import prepare
from specdyn.tasks.plan.gathering import gather
from specdyn.tasks.plan.here import ThisProcess
from specdyn.tasks.plan.series import SeriesStudy, analyse_series
from specdyn.tasks.plan.sources import look

SWEEP = sweep_called("decay", 0.0, 1.0, analyses=("spectrum",))
GRAPHS = "forks"
SERIES = "theirs"
SETTINGS = {"name": GRAPHS, "seeds": [0]}


def series(folder: Path) -> SeriesStudy:
    """The checkpoints in a folder, written first if there are none."""
    if not folder.exists():
        folder.mkdir(parents=True)
        for step in (0, 10):
            draw = torch.Generator().manual_seed(step)
            save_file({"up.weight": torch.randn(6, 4, generator=draw)}, folder / f"step={step}.safetensors")
    return SeriesStudy(name=SERIES, sources=(look(str(folder)),), analyses=("spectrum",), audited=False)


def call_all(store: Store, folder: Path) -> None:
    """Make a sweep, forks, tickets, a series and a data set, unless they exist."""
    require_store(store.url)
    analyse(SWEEP, store.url)
    gather(SWEEP, store, report=False)
    for which, orders in (("connect", [3, 4]), ("tickets", [3])):
        graph, _ = graph_in(store.url, which, **SETTINGS, orders=orders)
        carry_out(graph, store)
        graph.clean(store)
    study = series(folder)
    study.record(store)
    if any(item.unit for item in study.items(store)):
        analyse_series(ThisProcess(), lambda _: None, study.sources[0], study.analyses, store)
    gather(study, store, report=False)
    prepare(store, get_dataset("mnist", "sample"))


def cubes_of(store: Store) -> dict[str, xr.DataTree]:
    """The cubes of that store, fully loaded."""
    urls = [store.cube(SWEEP.name), store.connectivity(GRAPHS), store.tickets(GRAPHS), store.cube(SERIES)]
    return {url.removeprefix(store.url): _read(url) for url in urls}


def _read(url: str) -> xr.DataTree:
    with reading(url):
        return open_results(url).load()


def snapshot(store: Store) -> dict[str, tuple[bytes, int]]:
    """Every file of a local store, with its time of writing."""
    files = (path for path in Path(store.url).rglob("*") if path.is_file())
    return {str(path): (path.read_bytes(), path.stat().st_mtime_ns) for path in files}


@contextmanager
def put_back(place: Path) -> Iterator[None]:
    """Restore a folder after the block to its state before the first one, including modification times.

    Writes only differences, as recreating all folders of a store takes longer than most tests.
    """
    copy = place.with_name(f"{place.name}-kept")
    if not copy.exists():
        shutil.copytree(place, copy)
    yield
    wanted, there = _below(copy), _below(place)
    for name in sorted(there, reverse=True):  # files before the folder that they are in
        if name not in wanted or (there[name] is None) != (wanted[name] is None):
            (place / name).rmdir() if there[name] is None else (place / name).unlink()
    for name, of_file in wanted.items():
        if of_file is None:
            (place / name).mkdir(exist_ok=True)
        elif there.get(name) != of_file:
            shutil.copy2(copy / name, place / name)


def _below(folder: Path) -> dict[str, tuple[int, int] | None]:
    """Size and modification time of every file, None for folders, which come before their contents."""
    found: dict[str, tuple[int, int] | None] = {}
    for path in sorted(folder.rglob("*")):
        state = None if path.is_dir() else path.stat()
        found[str(path.relative_to(folder))] = state and (state.st_size, state.st_mtime_ns)
    return found
