"""Training state: what is needed besides weights for a bitwise identical continuation (optimizers, generators)."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from specdyn.models import generators
from specdyn.models.spec.run_spec import RunSpec
from specdyn.tasks.training.optimizers import Updater

GENERATOR = "generator/"
"""Prefix of a generator's kind in the names of the state."""


def noise_seed(spec: RunSpec) -> int:
    """Seed of random draws in losses, different from that of the initial weights."""
    return generators.seed_of(f"{spec.order_seed}/noise")


def pack_state(updater: Updater) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """State of the updates and of torch's generators as named tensors and JSON, copied to the CPU."""
    state, metadata = updater.state()
    tensors = {f"optimizer/{name}": tensor for name, tensor in state.items()}
    tensors |= {f"{GENERATOR}{kind}": state for kind, state in generators.states(updater.device).items()}
    return tensors, metadata


def load_state(updater: Updater, tensors: Mapping[str, Tensor], metadata: Mapping[str, Any]) -> None:
    """Restore the result of `pack_state`."""
    state = {name.removeprefix("optimizer/"): t for name, t in tensors.items() if name.startswith("optimizer/")}
    updater.load(state, metadata)
    drawn = {name.removeprefix(GENERATOR): t for name, t in tensors.items() if name.startswith(GENERATOR)}
    generators.put_back(drawn, updater.device)
