"""Agreement of singular vectors with those of the run's final checkpoint (METHOD 4.2)."""

from specdyn.storage.schema import TOP_RANKS, Variable
from specdyn.tasks.spectra.analysis import Analysis, LayerView, Values
from specdyn.tasks.spectra.comparisons import variables
from specdyn.tasks.spectra.labels import SIDES, SUBSPACES


def compute(view: LayerView) -> Values:
    """Diagonal, best match, score, subspace overlaps, and the leading block of the full agreement matrix."""
    from specdyn.tasks.spectra.agreement import compare

    values, a_RR = compare(view.factors, view.final.factors[view.layer.name], "")
    return {**values, "agreement_block": a_RR[:TOP_RANKS, :TOP_RANKS]}


ANALYSIS = Analysis(
    name="agreement",
    version=1,
    of="layer",
    compares="final",
    variables={
        **variables("", "final checkpoint"),
        "agreement_block": Variable(
            dims=("layer", "step", "row", "column"),
            long_name="agreement with the final checkpoint, leading ranks",
            chunks={"step": 8},
            about="|<u_i, u'_j> <v_i, v'_j>| for i, j up to 64; METHOD 4.2",
        ),
    },
    compute=compute,
    labels={"side": SIDES, "subspace": SUBSPACES},
)
