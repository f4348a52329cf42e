"""`specdyn plot`: a figure of one variable of a study, as a file."""

import os
from collections.abc import Sequence

from specdyn.models.spec.checks import require
from specdyn.storage.access.objects import normalise, require_writable, write
from specdyn.storage.probe import existing_store
from specdyn.storage.query import measured_runs, open_study, reading
from specdyn.tasks.figures.style import to_png, to_svg
from specdyn.tasks.figures.variable import plot_variable


def draw(
    study: str, variable: str, store: str, by: str, along: str, at: Sequence[str], log: str, file: str | None
) -> str:
    """Write the figure; returns where it is. ValueError or StoreError says what is not known."""
    url = existing_store(store)
    written = normalise(file if file is not None else f"{study}-{variable}.png")
    fits = written.endswith((".png", ".svg")) and not os.path.isdir(written)
    require(fits, "out", file, "the name of a .png or .svg file")
    labels = dict(one.partition("=")[::2] for one in at)
    require(all("=" in one for one in at), "at", list(at), "DIMENSION=LABEL")
    require_writable(written.rsplit("/", 1)[0])
    tree = measured_runs(open_study(url.url, study))
    with reading(study):
        figure = plot_variable(tree, variable, by, along, labels, log)
    write(written, (to_png if written.endswith(".png") else to_svg)(figure))
    return written
