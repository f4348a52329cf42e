"""Three variants of a network evaluated one after another, as we do, and stacked in one batched forward pass.

`python -m tests.benchmarks.stacked` prints milliseconds of CPU time for one batch of each experiment, on one thread.
"""

import tempfile
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state, vmap

from specdyn.models.datasets.base import get_dataset
from specdyn.models.experiments.base import get_experiment
from specdyn.storage.places import Store
from specdyn.tasks.data.prepare import require_data
from specdyn.tasks.evaluation.environment import use_threads
from specdyn.tasks.evaluation.examples import load_examples
from tests.benchmarks.training import seconds

CASES = (
    ("modular_addition", "demo"),
    ("modular_addition", "paper"),
    ("language_modelling", "sample"),
    ("image_classification", "sample"),
    ("image_generation", "sample"),
    ("speech_recognition", "sample"),
)
VARIANTS, ROUNDS = 3, 5


def least(work: Callable[[], object]) -> float:
    """Milliseconds of CPU time, the least of several rounds."""
    return 1000 * min(seconds(work) for _ in range(ROUNDS))


@torch.no_grad()
def row(name: str, preset: str, store: Store) -> str:
    """One experiment by both ways; torch's own words where it cannot stack a layer."""
    experiment = get_experiment(name)
    spec = experiment.preset(preset).spec
    if needed := experiment.dataset(spec):
        require_data(store, get_dataset(*needed))
    batch = next(iter(load_examples(spec, store)["val"].batches(spec.record.eval_batch_size)))
    nets: list[nn.Module] = [experiment.net(spec).eval() for _ in range(VARIANTS)]
    parameters, buffers = stack_module_state(nets)  # type: ignore[arg-type]

    def together(parameters: dict[str, Tensor], buffers: dict[str, Tensor]) -> Tensor:
        return functional_call(nets[0], (parameters, buffers), (batch.inputs,))  # type: ignore[no-any-return]

    apart = least(lambda: [net(batch.inputs) for net in nets])
    try:
        stacked = f"{least(lambda: vmap(together, randomness='same')(parameters, buffers)):.0f}"
    except RuntimeError as error:
        stacked = str(error).splitlines()[0]
    return f"{name}, {preset}, {len(batch.targets)} examples: one after another {apart:.0f}, stacked {stacked}"


def main() -> None:
    """Print a line for each experiment."""
    use_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        for case in CASES:
            print(row(*case, Store(folder)), flush=True)


if __name__ == "__main__":
    main()
