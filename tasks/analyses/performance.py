"""Metrics of the unmodified network (METHOD 4.1)."""

from specdyn.storage.schema import Variable
from specdyn.tasks.spectra.analysis import Analysis, CheckpointView, Values


def compute(view: CheckpointView) -> Values:
    """Every metric of the experiment on every split."""
    return view.evaluate(view.now.weights)


ANALYSIS = Analysis(
    name="performance",
    version=1,
    of="checkpoint",
    needs_vectors=False,
    needs_data=True,
    variables={
        "{metric}": Variable(dims=("split", "step"), long_name="{metric}", about="unweighted mean over batches"),
    },
    compute=compute,
)
