"""How every figure looks: sizes, fonts, colours, axes and the way to PNG."""

import contextlib
import io
import threading
from collections.abc import Iterator, Sequence
from typing import Any

import matplotlib
import numpy as np
import xarray as xr
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.ticker import FuncFormatter, LogFormatterSciNotation, MaxNLocator
from PIL import Image

from specdyn.storage.schema import STEP_UNITS

WIDEST = 5.5
"""Inches: the width of the text in the usual conference and journal templates."""
NARROWEST = 3.25
"""Inches: one of two columns."""
DPI, SCREEN_DPI = 300, 216
LARGEST = 400_000
"""Bytes of a PNG of all colours. Beyond it few colours do for heat maps and spectra, never for pale bands."""
INCHES, HANDLE = 0.055, 0.42
"""Of a character in a legend, and of the line beside a text."""
MARGIN = 0.55
"""Inches of height that a title, labels and a legend take."""
INK, FAINT = "#222222", "#b8b8b8"
FULL, TOP, BOTTOM = INK, "#0072b2", "#d55e00"
"""Colours of the whole network and of its halves, told apart by the colour-blind."""

STYLE: Any = {
    "figure.constrained_layout.use": True,
    "figure.constrained_layout.h_pad": 0.03,
    "figure.constrained_layout.w_pad": 0.03,
    "figure.titlesize": 8.5,
    "figure.labelsize": 7,
    "font.size": 7,
    "text.color": INK,
    "axes.titlesize": 7,
    "axes.titlepad": 3,
    "axes.labelpad": 2,
    "axes.titlelocation": "left",
    "axes.labelsize": 7,
    "axes.labelcolor": INK,
    "axes.edgecolor": "#888888",
    "axes.linewidth": 0.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.xmargin": 0.02,
    "axes.grid": True,
    "grid.color": "#ececec",
    "grid.linewidth": 0.5,
    "xtick.labelsize": 6,
    "xtick.major.size": 2,
    "xtick.major.width": 0.5,
    "xtick.minor.size": 1.2,
    "xtick.minor.width": 0.4,
    "xtick.major.pad": 2,
    "ytick.labelsize": 6,
    "ytick.major.size": 2,
    "ytick.major.width": 0.5,
    "ytick.minor.size": 1.2,
    "ytick.minor.width": 0.4,
    "ytick.major.pad": 2,
    "xtick.color": "#888888",
    "ytick.color": "#888888",
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "lines.linewidth": 1.0,
    "lines.markersize": 2.5,
    "lines.solid_capstyle": "round",
    "legend.frameon": False,
    "legend.fontsize": 6.5,
    "legend.title_fontsize": 6.5,
    "legend.handlelength": 1.8,
    "legend.columnspacing": 1.4,
    "legend.labelspacing": 0.3,
}
SHORTEST, LONGEST = 1e-3, 1e4
"""Between which the ticks of a logarithmic axis are plain numbers."""
MATHDEFAULT = r"$\mathdefault{"
"""What the ticks of a logarithmic axis begin with."""
DRAWING = threading.RLock()
"""Held while something is drawn: all threads share matplotlib's settings."""


@contextlib.contextmanager
def _styled() -> Iterator[None]:
    with DRAWING, matplotlib.rc_context(STYLE):
        yield


styled = _styled()
"""Decorator of everything that draws."""


class PlainLogFormatter(LogFormatterSciNotation):
    """Ticks of a logarithmic axis as plain numbers where all of them are short, else as powers of ten."""

    def __call__(self, x: float, pos: int | None = None) -> str:
        """A tick, empty where it has no label."""
        text = super().__call__(x, pos)
        low, high = self.axis.get_view_interval()  # type: ignore[union-attr]
        return f"{x:g}" if text and low >= SHORTEST and high < LONGEST else text


class LiteralFigure(Figure):
    """A figure in which a name with a dollar sign is no formula; the ticks of logarithmic axes are."""

    def draw(self, renderer: Any) -> None:
        """Draw it, names as they are."""
        for axis in (axis for axes in self.axes for axis in (axes.xaxis, axes.yaxis)):
            if type(axis.get_major_formatter()) is LogFormatterSciNotation:
                axis.set_major_formatter(PlainLogFormatter())
                axis.set_minor_formatter(PlainLogFormatter())
        for text in self.findobj(Text):
            assert isinstance(text, Text)
            if "$" in text.get_text():
                text.set_parse_math(MATHDEFAULT in text.get_text())
        super().draw(renderer)


def panels(rows: int, columns: int, width: float, height: float, **sharing: Any) -> tuple[Figure, np.ndarray]:
    """A figure with (rows, columns) axes of that size in inches, narrower where they would not fit.

    A single column is widened, as titles and the names of layers beside it need room.
    """
    width = max(min(width, WIDEST / columns), NARROWEST / columns)
    figure = LiteralFigure(figsize=(width * columns, height * rows + MARGIN))
    return figure, figure.subplots(rows, columns, squeeze=False, **sharing)


def legend_below(figure: Figure, handles: Sequence[Artist], title: str | None = None) -> None:
    """A legend under all panels, in as many columns as fit beside one another, at most four."""
    widest = max(len(str(handle.get_label())) for handle in handles)
    columns = int(figure.get_figwidth() // (INCHES * widest + HANDLE))
    columns = max(1, min(columns, 4, len(handles)))
    figure.legend(handles=handles, loc="outside lower center", ncols=columns, title=title)


def step_label(*trees: xr.DataTree) -> str:
    """What the step axis counts in these cubes."""
    return ", ".join(dict.fromkeys(STEP_UNITS[str(tree.attrs.get("unit", "steps"))] for tree in trees))


def name_step_axes(grid: np.ndarray, *trees: xr.DataTree) -> None:
    """Name the step axis once a column, under its lowest panel."""
    for axes in grid[-1]:
        axes.set_xlabel(step_label(*trees))


def step_axis(axes: Axes, ticks: int = 5) -> None:
    """Whole optimizer steps with thousands set apart."""
    axes.xaxis.set_major_locator(MaxNLocator(ticks, integer=True, steps=[1, 2, 5, 10]))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda step, _: f"{step:,.0f}"))


def log_axis(axes: Axes, values: np.ndarray) -> None:
    """A logarithmic y axis where there is anything it can show."""
    if (values > 0).any():
        axes.set_yscale("log")


@styled
def to_svg(figure: Figure) -> bytes:
    """The figure as an SVG with its text as text, the same for the same data."""
    written = io.BytesIO()
    with matplotlib.rc_context({"svg.hashsalt": "specdyn", "svg.fonttype": "none"}):
        figure.savefig(written, format="svg", metadata={"Date": None})
    return written.getvalue()


@styled
def to_screen(figure: Figure) -> bytes:
    """The figure as a PNG for a page that is drawn again at each choice: quickly made, sharp at twice its size."""
    written = io.BytesIO()
    figure.savefig(written, format="png", dpi=SCREEN_DPI, pil_kwargs={"compress_level": 1})
    return written.getvalue()


@styled
def to_png(figure: Figure) -> bytes:
    """The figure as a PNG, the same for the same data; of 256 colours where all would make it too large."""
    figure.set_dpi(DPI)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    image = Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")
    exact = _encoded(image)
    if len(exact) <= LARGEST:
        return exact
    # The default, median cut, turns the light end of a heat map's scale into a few visible steps.
    return _encoded(image.quantize(256, method=Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE))


def _encoded(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()
