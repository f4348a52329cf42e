"""Agreement of singular vectors with those of the previous checkpoint (METHOD 4.2, CLAIMS 5.7)."""

from specdyn.tasks.spectra.analysis import Analysis, LayerView, Values
from specdyn.tasks.spectra.comparisons import variables
from specdyn.tasks.spectra.labels import SIDES, SUBSPACES


def compute(view: LayerView) -> Values:
    """Diagonal, best match, score and subspace overlaps; nothing at the first checkpoint."""
    from specdyn.tasks.spectra.agreement import compare

    if view.previous is None:
        return {}
    return compare(view.factors, view.previous.factors[view.layer.name], "_previous")[0]


ANALYSIS = Analysis(
    name="agreement_previous",
    version=1,
    of="layer",
    compares="previous",
    variables=variables("_previous", "checkpoint before"),
    compute=compute,
    labels={"side": SIDES, "subspace": SUBSPACES},
)
