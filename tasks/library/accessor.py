"""`results.specdyn`: queries and figures of a data set or a cube, as methods of xarray objects.

Each method calls the function of the same name, which has the documentation and types; no state is kept between calls.
"""

from typing import TYPE_CHECKING, Any, Generic

import xarray as xr

from specdyn.tasks.library.questions import Results

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

NAME = "specdyn"


class Plots(Generic[Results]):
    """The figures of a report; each returns a matplotlib figure, coloured or split by the setting `by`.

    `plot(name)` draws any figure by name, including those of plug-ins.
    """

    def __init__(self, data: Results) -> None:
        self._data: Results = data

    def __call__(self, name: str, by: str = "") -> "Figure":
        """The figure of that name; see `figure`."""
        return self._draw(name, by)

    def effective_rank(self, by: str = "") -> "Figure":
        """Effective rank of each layer against step."""
        return self._draw("effective_rank", by)

    def performance(self, by: str = "") -> "Figure":
        """Loss and error against step."""
        return self._draw("performance", by)

    def singular_values(self, by: str = "") -> "Figure":
        """Every singular value of each layer against step, for one run per configuration."""
        return self._draw("singular_values", by)

    def agreement(self, by: str = "") -> "Figure":
        """Agreement with the final checkpoint by rank and step."""
        return self._draw("agreement", by)

    def agreement_score(self, by: str = "") -> "Figure":
        """Agreement score by layer and step."""
        return self._draw("agreement_score", by)

    def alignment(self, by: str = "") -> "Figure":
        """Alignment between layers by rank and step."""
        return self._draw("alignment", by)

    def alignment_score(self, by: str = "") -> "Figure":
        """Alignment score by pair of layers and step."""
        return self._draw("alignment_score", by)

    def pruned_loss(self, by: str = "") -> "Figure":
        """Loss with half of the singular values against step."""
        return self._draw("pruned_loss", by)

    def _draw(self, name: str, by: str) -> "Figure":
        from specdyn.tasks.library.drawing import figure

        return figure(self._data, name, by)


class Questions(Generic[Results]):
    """Queries of results; see the functions of the same names in `specdyn`."""

    def __init__(self, data: Results) -> None:
        self._data: Results = data

    @property
    def plot(self) -> Plots[Results]:
        """Figures."""
        return Plots(self._data)

    def mean_over(self, over: str = "seed") -> Results:
        """The mean over runs that agree in all other settings, with the number of runs; see `mean_over`."""
        from specdyn.tasks.library.questions import mean_over

        return mean_over(self._data, over)

    def scores(self) -> Results:
        """The agreement and alignment scores; see `scores`."""
        from specdyn.tasks.library.questions import scores

        return scores(self._data)

    def above_chance(self, *names: str) -> Results:
        """Values divided by their chance level; see `above_chance`."""
        from specdyn.tasks.library.questions import above_chance

        return above_chance(self._data, *names)

    def grok_step(self, threshold: float = 0.05) -> xr.Dataset:
        """The step at which each run groks, and whether it never does; see `grok_step`."""
        from specdyn.tasks.library.questions import grok_step

        return grok_step(self._data, threshold)

    def timing(self, by_layer: bool = False, memorised: float = 0.01, grokked: float = 0.05) -> xr.Dataset:
        """When each run memorises, groks and loses rank; see `timing`."""
        from specdyn.tasks.timing.runs import timing

        data: Any = self._data
        return timing(data, by_layer, memorised, grokked)

    def edge_lead(self, portion: str = "total", grokked: float = 0.05) -> xr.Dataset:
        """By how many steps the peak of the updates' spectral edge precedes grokking; see `edge_lead`."""
        from specdyn.tasks.timing.edges import edge_lead

        data: Any = self._data
        return edge_lead(data, portion, grokked)

    def by_depth(self, metric: str = "loss", split: str = "val") -> "pd.DataFrame":
        """A row per layer and checkpoint: kind, depth, spectrum and cost of pruning; see `by_depth`."""
        from specdyn.tasks.library.by_depth import by_depth

        data: Any = self._data
        return by_depth(data, metric, split)

    def predicts_pruning(self, metric: str = "loss", split: str = "val") -> xr.Dataset:
        """Correlation of each layer's spectrum with the cost of pruning it; see `predicts_pruning`."""
        from specdyn.tasks.library.by_depth import predicts_pruning

        data: Any = self._data
        return predicts_pruning(data, metric, split)

    def to_dataframe(self, *names: str) -> "pd.DataFrame":
        """Variables as a tidy table; see `to_dataframe`."""
        from specdyn.tasks.library.frames import to_dataframe

        return to_dataframe(self._data, *names)


def register() -> None:
    """Add the accessor `specdyn` to xarray's data sets and trees; a second call does nothing."""
    kinds: dict[Any, Any] = {xr.Dataset: xr.register_dataset_accessor, xr.DataTree: xr.register_datatree_accessor}
    for kind, accessor in kinds.items():
        if not hasattr(kind, NAME):
            accessor(NAME)(Questions)
