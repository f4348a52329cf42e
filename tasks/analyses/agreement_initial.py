"""Agreement of singular vectors with those of the run's first checkpoint (METHOD 4.2, CLAIMS 5.7)."""

from specdyn.tasks.spectra.analysis import Analysis, LayerView, Values
from specdyn.tasks.spectra.comparisons import variables
from specdyn.tasks.spectra.labels import SIDES, SUBSPACES


def compute(view: LayerView) -> Values:
    """Diagonal, best match, score and subspace overlaps."""
    from specdyn.tasks.spectra.agreement import compare

    return compare(view.factors, view.initial.factors[view.layer.name], "_initial")[0]


ANALYSIS = Analysis(
    name="agreement_initial",
    version=1,
    of="layer",
    compares="initial",
    variables=variables("_initial", "first checkpoint"),
    compute=compute,
    labels={"side": SIDES, "subspace": SUBSPACES},
)
