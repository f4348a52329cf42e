"""The examples a run trains on and is evaluated on, from its experiment and the prepared data of its store."""

from models.experiment import Examples, get_experiment
from models.run_spec import RunSpec


def load_examples(spec: RunSpec, store: str) -> dict[str, Examples]:
    """Examples of the splits `train` and `val`; data sets must have been prepared in the store."""
    experiment = get_experiment(spec.experiment)
    assert experiment.dataset(spec) is None
    return experiment.examples(spec, {})
