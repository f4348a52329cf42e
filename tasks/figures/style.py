"""The style of all figures: sizes, fonts, colours, axes, and rendering to PNG and SVG."""

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
"""Inches: the text width of common conference and journal templates."""
NARROWEST = 3.25
"""Inches: one of two columns."""
DPI, SCREEN_DPI = 300, 216
LARGEST = 400_000
"""Bytes of a full-colour PNG. Larger ones are reduced to 256 colours, enough for heat maps and spectra."""
INCHES, HANDLE = 0.055, 0.42
"""Width of a character in a legend, and of the line next to a text."""
MARGIN = 0.55
"""Height of a title, labels and a legend, in inches."""
INK, FAINT = "#222222", "#b8b8b8"
FULL, TOP, BOTTOM = INK, "#0072b2", "#d55e00"
"""Colour-blind-safe colours of the whole network and of its halves."""

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
"""Prefix of tick labels on a logarithmic axis."""
DRAWING = threading.RLock()
"""Lock held while drawing, as all threads share matplotlib's settings."""


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
    """A figure that shows names with dollar signs literally; only ticks of logarithmic axes are formulas."""

    def draw(self, renderer: Any) -> None:
        """Draw the figure, with names shown literally."""
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
    """A figure with (rows, columns) axes of that size in inches, narrower if they would not fit.

    A single column is widened to make space for titles and names of layers.
    """
    width = max(min(width, WIDEST / columns), NARROWEST / columns)
    figure = LiteralFigure(figsize=(width * columns, height * rows + MARGIN))
    return figure, figure.subplots(rows, columns, squeeze=False, **sharing)


def title_panel(axes: Axes, title: str, characters: int = 18) -> None:
    """Set a panel's title; smaller than others where a line of it has more characters than fit over the panel."""
    longest = max(map(len, title.split("\n")))
    axes.set_title(title, fontsize=matplotlib.rcParams["axes.titlesize"] * min(1.0, characters / max(longest, 1)))


def legend_below(figure: Figure, handles: Sequence[Artist], title: str | None = None) -> None:
    """A legend below all panels, in as many columns as fit, at most four."""
    widest = max(len(str(handle.get_label())) for handle in handles)
    columns = int(figure.get_figwidth() // (INCHES * widest + HANDLE))
    columns = max(1, min(columns, 4, len(handles)))
    figure.legend(handles=handles, loc="outside lower center", ncols=columns, title=title)


def step_label(*trees: xr.DataTree) -> str:
    """The label of the step axis for these cubes."""
    return ", ".join(dict.fromkeys(STEP_UNITS[str(tree.attrs.get("unit", "steps"))] for tree in trees))


def name_step_axes(grid: np.ndarray, *trees: xr.DataTree) -> None:
    """Label the step axis once per column, under its lowest panel."""
    for axes in grid[-1]:
        axes.set_xlabel(step_label(*trees))


def step_axis(axes: Axes, ticks: int = 5) -> None:
    """Use whole optimizer steps with thousands separators."""
    axes.xaxis.set_major_locator(MaxNLocator(ticks, integer=True, steps=[1, 2, 5, 10]))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda step, _: f"{step:,.0f}"))


def log_axis(axes: Axes, values: np.ndarray) -> None:
    """Use a logarithmic y axis if there are positive values."""
    if (values > 0).any():
        axes.set_yscale("log")


@styled
def to_svg(figure: Figure) -> bytes:
    """The figure as a reproducible SVG, with text as text."""
    written = io.BytesIO()
    with matplotlib.rc_context({"svg.hashsalt": "specdyn", "svg.fonttype": "none"}):
        figure.savefig(written, format="svg", metadata={"Date": None})
    return written.getvalue()


@styled
def to_screen(figure: Figure) -> bytes:
    """The figure as a PNG for interactive pages: fast to render, sharp on high-resolution screens."""
    written = io.BytesIO()
    figure.savefig(written, format="png", dpi=SCREEN_DPI, pil_kwargs={"compress_level": 1})
    return written.getvalue()


@styled
def to_png(figure: Figure) -> bytes:
    """The figure as a reproducible PNG, reduced to 256 colours if it would be too large."""
    figure.set_dpi(DPI)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    image = Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")
    exact = _encoded(image)
    if len(exact) <= LARGEST:
        return exact
    # The default, median cut, reduces the light end of a heat map's scale to a few visible steps.
    return _encoded(image.quantize(256, method=Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE))


def _encoded(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()
