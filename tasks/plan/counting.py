"""Counts the cost of measuring ends, pairs and tickets in advance; METHOD 7 has the published counts."""

from specdyn.models.experiments.base import experiment_of
from specdyn.models.spec.run_spec import RunSpec
from specdyn.storage.schema import SPLITS
from specdyn.tasks.connect.matching import groups
from specdyn.tasks.connect.meter import has_statistics
from specdyn.tasks.connect.pair import Pair
from specdyn.tasks.plan.cost import Cost
from specdyn.tasks.spectra.labels import HALVES
from specdyn.tasks.spectra.network_layout import network_layout
from specdyn.tasks.training.branches import maskable


class Counter:
    """Counts costs for one network, which it builds once."""

    def __init__(self, spec: RunSpec) -> None:
        net = experiment_of(spec).net(spec)
        self._layers, self._masked = len(network_layout(spec).layers), len(maskable(spec))
        self._normalised = has_statistics(net)
        try:
            self._matched = bool(groups(net))
        except ValueError:
            self._matched = False

    def factors_of_end(self) -> Cost:
        """Decomposing the last checkpoint of a run for all its measurements."""
        return Cost(evaluations=0, decompositions=self._layers)

    def end(self) -> Cost:
        """Evaluating the decomposed last checkpoint of a run: whole and either half, also with stored statistics."""
        return self._points(1)

    def pair(self, pair: Pair) -> Cost:
        """The line between two measured and decomposed ends, and the pair's further measurements."""
        inner, layers = pair.points - 2, self._layers
        line = self._points(inner)
        matched = inner if self._matched else 0
        alone = layers * (pair.points - 1) if pair.layerwise else 0
        curve = inner if pair.curve_steps else 0
        others = matched + alone + curve
        return Cost(
            evaluations=line.evaluations + len(SPLITS) * others,
            decompositions=inner * layers,
            renewals=line.renewals + others * self._normalised,
            updates=pair.curve_steps,
        )

    def factors_of_dense(self, checkpoints: int) -> Cost:
        """Decomposing a dense run at each checkpoint for all of its tickets."""
        return Cost(evaluations=0, decompositions=self._masked * checkpoints)

    def ticket(self, checkpoints: int) -> Cost:
        """Comparing a ticket with its dense run: decomposing each checkpoint, and the masked dense end."""
        return Cost(evaluations=len(SPLITS) * checkpoints, decompositions=self._masked * (checkpoints + 1))

    def _points(self, count: int) -> Cost:
        return Cost(
            evaluations=count * len(SPLITS) * ((1 + len(HALVES)) + self._normalised),
            decompositions=0,
            renewals=count * (1 + len(HALVES)) * self._normalised,
        )
