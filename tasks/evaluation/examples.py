"""The examples a run trains on and is evaluated on, from its experiment and the prepared data of its store."""

from specdyn.models.datasets.base import get_dataset
from specdyn.models.datasets.decoders.examples import Examples
from specdyn.models.experiments.base import get_experiment
from specdyn.models.spec.run_spec import RunSpec
from specdyn.tasks.data.prepare import load


def load_examples(spec: RunSpec, store: str) -> dict[str, Examples]:
    """Examples of the splits `train` and `val`; NotPrepared where the data set is not in the store yet."""
    experiment = get_experiment(spec.experiment)
    needed = experiment.dataset(spec)
    return experiment.examples(spec, {} if needed is None else load(store, get_dataset(*needed)))
