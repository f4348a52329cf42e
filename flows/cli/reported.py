"""`specdyn report`: writes the pages of a study, and on request its figures as files."""

import contextlib
from collections.abc import Callable, Iterator

from rich.console import Console

from specdyn.flows.cli.options import err, out
from specdyn.models.wording import plural
from specdyn.storage import generations
from specdyn.storage.access.objects import normalise, require_writable
from specdyn.storage.probe import existing_store
from specdyn.storage.studies import cube_of, kinds_of


def report(study: str, store: str, folder: str | None, figures: bool) -> None:
    """Write the pages of a study's results, and print the summary table of its runs.

    ValueError lists the known studies; StoreError if nothing is measured, or the folder cannot be written.
    """
    url = existing_store(store)
    cubes = {cube_of(url, study, kind): kind for kind in kinds_of(url, study)}
    measured = {cube: kind for cube, kind in cubes.items() if generations.attributes(cube)} or cubes
    place = url.report(study) if folder is None else normalise(folder)
    require_writable(place)
    written: list[str] = []
    with _told(study) as told:
        from specdyn.storage.query import reading
        from specdyn.tasks.figures.live.beside import look_beside
        from specdyn.tasks.figures.report import write_report

        for cube, beside in look_beside(url, study, measured).items():
            with reading(cube):
                written += write_report(cube, place, figures, told, beside)
    for cube, kind in measured.items():
        if kind in ("sweep", "series"):
            from specdyn.flows.cli.terminal import show_summary

            show_summary(cube, place)
    for page in [one for one in written if one.endswith(".html")]:
        out.print(f"report       {page}")
    if figures:
        pictures = plural(sum(one.endswith(".png") for one in written), "figure")
        out.print(f"figures      {pictures}, each as PNG and SVG, in {place}")


@contextlib.contextmanager
def _told(study: str) -> Iterator[Callable[[str], None]]:
    """Show progress in a terminal, and clear it at the end."""
    if not err.is_terminal:
        yield lambda what: None
        return
    with Console(stderr=True).status(f"report of {study}: starting") as shown:  # `err` does not wrap lines
        yield lambda what: shown.update(f"report of {study}: {what}")
