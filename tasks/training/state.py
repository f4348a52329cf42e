"""What a training must keep besides weights to go on with the same bits: optimizers and generators."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from specdyn.models import generators
from specdyn.models.spec.run_spec import RunSpec
from specdyn.tasks.training.optimizers import Updater

GENERATOR = "generator/"
"""Before the kind of a generator, in the names of its state."""


def noise_seed(spec: RunSpec) -> int:
    """Seed of what losses draw at random: another one than that of the initial weights."""
    return generators.seed_of(f"{spec.order_seed}/noise")


def pack_state(updater: Updater) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """State of the updates and of torch's generators as named tensors and JSON, copied off the device."""
    state, metadata = updater.state()
    tensors = {f"optimizer/{name}": tensor for name, tensor in state.items()}
    tensors |= {f"{GENERATOR}{kind}": state for kind, state in generators.states(updater.device).items()}
    return tensors, metadata


def load_state(updater: Updater, tensors: Mapping[str, Tensor], metadata: Mapping[str, Any]) -> None:
    """Put back what `pack_state` took."""
    state = {name.removeprefix("optimizer/"): t for name, t in tensors.items() if name.startswith("optimizer/")}
    updater.load(state, metadata)
    drawn = {name.removeprefix(GENERATOR): t for name, t in tensors.items() if name.startswith(GENERATOR)}
    generators.put_back(drawn, updater.device)
