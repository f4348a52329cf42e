"""`results.specdyn`: questions to, and figures of, a data set or a cube, as methods of xarray's objects.

Each method is a function of the same name, which is where its documentation and types are; nothing is kept between
calls.
"""

from typing import TYPE_CHECKING, Any, Generic

import xarray as xr

from specdyn.tasks.library.questions import Results

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

NAME = "specdyn"


class Plots(Generic[Results]):
    """The figures of a report; each returns a matplotlib figure, by the setting that colours or panels stand for.

    `plot(name)` draws any figure by its name, also one of a plug-in.
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
        """Every singular value of each layer against step, of one run of each setting."""
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
    """Questions to results; see the functions of the same names in `specdyn`."""

    def __init__(self, data: Results) -> None:
        self._data: Results = data

    @property
    def plot(self) -> Plots[Results]:
        """Figures."""
        return Plots(self._data)

    def mean_over(self, over: str = "seed") -> Results:
        """The mean over the runs that agree in all other settings, with how many each is of; see `mean_over`."""
        from specdyn.tasks.library.questions import mean_over

        return mean_over(self._data, over)

    def scores(self) -> Results:
        """The agreement and alignment scores; see `scores`."""
        from specdyn.tasks.library.questions import scores

        return scores(self._data)

    def above_chance(self, *names: str) -> Results:
        """Values divided by their level by chance; see `above_chance`."""
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
        """How many steps before grokking the spectral edge of updates has its peak; see `edge_lead`."""
        from specdyn.tasks.timing.edges import edge_lead

        data: Any = self._data
        return edge_lead(data, portion, grokked)

    def by_depth(self, metric: str = "loss", split: str = "val") -> "pd.DataFrame":
        """A row for each layer and checkpoint: kind, depth, spectrum and what pruning it costs; see `by_depth`."""
        from specdyn.tasks.library.by_depth import by_depth

        data: Any = self._data
        return by_depth(data, metric, split)

    def predicts_pruning(self, metric: str = "loss", split: str = "val") -> xr.Dataset:
        """Correlation of each layer's spectrum with what pruning it costs; see `predicts_pruning`."""
        from specdyn.tasks.library.by_depth import predicts_pruning

        data: Any = self._data
        return predicts_pruning(data, metric, split)

    def to_dataframe(self, *names: str) -> "pd.DataFrame":
        """Variables as a tidy table; see `to_dataframe`."""
        from specdyn.tasks.library.frames import to_dataframe

        return to_dataframe(self._data, *names)


def register() -> None:
    """Give xarray's data sets and trees the attribute `specdyn`; a second call does nothing."""
    kinds: dict[Any, Any] = {xr.Dataset: xr.register_dataset_accessor, xr.DataTree: xr.register_datatree_accessor}
    for kind, accessor in kinds.items():
        if not hasattr(kind, NAME):
            accessor(NAME)(Questions)
