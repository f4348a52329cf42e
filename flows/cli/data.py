"""`specdyn data`: lists data sets, downloads their files and prepares them in a store."""

import contextlib
from collections.abc import Iterator
from typing import Annotated

import typer
from rich.progress import BarColumn, DownloadColumn, Progress, TaskID, TextColumn, TransferSpeedColumn

from specdyn.flows.cli.json_form import with_json
from specdyn.flows.cli.options import StoreOption, err, friendly, out

data_app = typer.Typer(no_args_is_help=True, help="List, fetch and prepare data sets.")

Name = Annotated[str, typer.Argument(help="Name of a data set (see `specdyn data list`).")]
Variant = Annotated[
    str, typer.Option(help="`full` (the published data set) or `sample` (a small one that comes with specdyn).")
]


@contextlib.contextmanager
def _bars() -> Iterator["DownloadBars"]:
    """Show a progress bar per downloaded file, on a terminal."""
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=err, disable=not err.is_terminal) as bars:
        yield DownloadBars(bars)


class DownloadBars:
    """Shows the progress of each download."""

    def __init__(self, bars: Progress) -> None:
        self._bars = bars
        self._tasks: dict[str, TaskID] = {}

    def __call__(self, name: str, done: int, total: int | None) -> None:
        if name not in self._tasks:
            self._tasks[name] = self._bars.add_task(name, total=total)
        self._bars.update(self._tasks[name], completed=done, total=total)


@data_app.command("list")
@with_json
@friendly
def list_(store: StoreOption = "results") -> None:
    """List the data sets with their size and licence, and whether the store has them."""
    from specdyn.flows.cli.listings import show_datasets
    from specdyn.storage.access.objects import normalise
    from specdyn.storage.places import Store

    show_datasets(Store(normalise(store)))


@data_app.command()
@friendly
def fetch(name: Name, variant: Variant = "full") -> None:
    """Download the files of a data set to the cache (`SPECDYN_DATA`) and verify them; nothing is downloaded twice."""
    from specdyn.models.datasets.base import get_dataset
    from specdyn.tasks.data.prepare import fetch as fetch_file

    with _bars() as report:
        paths = [fetch_file(file, report) for file in get_dataset(name, variant).files]
    for path in paths:
        out.print(str(path))


@data_app.command()
@friendly
def prepare(name: Name, variant: Variant = "full", store: StoreOption = "results") -> None:
    """Download, decode and verify a data set, and store its arrays where every worker can read them."""
    from specdyn.flows.cli.listings import show_prepared
    from specdyn.models.datasets.base import get_dataset
    from specdyn.storage.probe import require_store
    from specdyn.tasks.data.prepare import prepare as prepare_set

    chosen, url = get_dataset(name, variant), require_store(store)
    with _bars() as report:
        manifest = prepare_set(url, chosen, report)
    show_prepared(url, manifest)
