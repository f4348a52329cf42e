"""Agreement of all singular vectors with all of the final checkpoint; large, so only on request (METHOD 4.2)."""

from specdyn.storage.schema import Variable
from specdyn.tasks.spectra.analysis import Analysis, LayerView, Values


def compute(view: LayerView) -> Values:
    """The whole R x R agreement of one layer."""
    from specdyn.tasks.spectra.agreement import agreement

    return {"agreement_full": agreement(view.factors, view.final.factors[view.layer.name])}


ANALYSIS = Analysis(
    name="agreement_full",
    version=1,
    of="layer",
    compares="final",
    variables={
        "agreement_full": Variable(
            dims=("layer", "step", "rank", "final_rank"),
            long_name="agreement with the final checkpoint, all ranks",
            chunks={"step": 1},
            about="|<u_i, u'_j> <v_i, v'_j>| for all i of this and j of the final checkpoint; METHOD 4.2",
        ),
    },
    compute=compute,
    default=False,
)
