"""Pictures of the paper's figures without their text: `PYTHONPATH=tests python -m helpers.golden` draws them again.

Text is left out, as its rendering depends on the version of FreeType; figures' tests compare it as text.
"""

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import xarray as xr
from matplotlib.figure import Figure
from matplotlib.text import Text
from PIL import Image

from helpers.drawings import cube, pairs, tickets
from specdyn.tasks.figures.report import FIGURES, ReportFigure
from specdyn.tasks.figures.style import styled

FOLDER = Path(__file__).parents[1] / "fixtures" / "golden" / "figures"
DPI = 50
RESULTS: dict[str, Callable[[], xr.DataTree]] = {
    "run": cube,
    "pair": lambda: xr.DataTree(pairs()),
    "ticket": lambda: xr.DataTree(tickets()),
}
"""Results of each kind, made by hand."""


def picture(figure: ReportFigure) -> np.ndarray:
    """The pixels of a figure of results made by hand."""
    return pixels(figure.draw(RESULTS[figure.rows](), "weight_decay"))


@styled
def pixels(drawn: Figure) -> np.ndarray:
    """The content of the panels, whose positions do not depend on text: (height, width, 3), uint8."""
    drawn.set_layout_engine("none")
    for legend in list(drawn.legends):
        legend.remove()
    for axes in drawn.axes:
        if (legend := axes.get_legend()) is not None:
            legend.remove()
        axes.tick_params(which="both", label1On=False, label2On=False)
        axes.xaxis.offsetText.set_visible(False)
    for text in drawn.findobj(Text):
        text.set_visible(False)
    written = io.BytesIO()
    drawn.savefig(written, format="png", dpi=DPI)
    return np.asarray(Image.open(written).convert("RGB"))


def golden(name: str) -> np.ndarray:
    """The stored picture of a figure."""
    return np.asarray(Image.open(FOLDER / f"{name}.png").convert("RGB"))


def difference(one: np.ndarray, other: np.ndarray) -> float:
    """Root mean square difference between two pictures, in colour levels of 256; infinite if sizes differ."""
    if one.shape != other.shape:
        return float("inf")
    return float(np.sqrt(np.mean((one.astype(float) - other.astype(float)) ** 2)))


def main() -> None:
    """Draw all pictures again."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    for figure in FIGURES:
        image = Image.fromarray(picture(figure)).quantize(256, dither=Image.Dither.NONE)
        image.save(FOLDER / f"{figure.name}.png", optimize=True)
    print(f"{len(FIGURES)} figures in {FOLDER}")


if __name__ == "__main__":
    main()
