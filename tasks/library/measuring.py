"""Measures a whole series in memory, without storing results."""

from collections.abc import Callable, Sequence

import numpy as np

from specdyn.storage.results import RunLayout
from specdyn.tasks.spectra.analysis import get_analysis
from specdyn.tasks.spectra.filling import stack
from specdyn.tasks.spectra.network_layout import NetworkLayout, Target, run_layout
from specdyn.tasks.spectra.one_pass import Pass, decompose_step, measure_block
from specdyn.tasks.spectra.series import Series, need_vectors


def measure(
    series: Series, layout: NetworkLayout, analyses: Sequence[str], advance: Callable[[int], None] = lambda _: None
) -> tuple[RunLayout, dict[str, np.ndarray]]:
    """All values of a series in memory, with their labels; writes nothing. Decomposes each matrix once.

    `advance` is called with the number of newly finished matrices.
    """
    chosen = [get_analysis(name) for name in analyses]
    steps = series.steps
    target = Target(folder="", layout=run_layout(layout, steps, analyses, {}, {}))
    vectors = need_vectors(chosen)
    anchors = dict(decompose_step(series, layout, step, vectors) for step in dict.fromkeys((steps[0], steps[-1])))
    work = Pass(
        series=series, layout=layout, target=target, analyses=chosen, scratch=dict, anchors=anchors, advance=advance
    )
    rows, of_run = measure_block(work, steps)
    return target.layout, {**stack(rows, target.layout, work.variables), **of_run}
