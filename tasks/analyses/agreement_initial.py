"""Agreement of singular vectors with those of the run's first checkpoint (METHOD 4.2, CLAIMS 5.7)."""

from specdyn.tasks.spectra.agreement import SIDES, SUBSPACES, compare, variables
from specdyn.tasks.spectra.analysis import Analysis, LayerView, Values


def compute(view: LayerView) -> Values:
    """Diagonal, best match, score and subspace overlaps."""
    return compare(view.factors, view.initial.factors[view.layer.name], "_initial")[0]


ANALYSIS = Analysis(
    name="agreement_initial",
    version=1,
    of="layer",
    variables=variables("_initial", "first checkpoint"),
    compute=compute,
    labels={"side": SIDES, "subspace": SUBSPACES},
)
