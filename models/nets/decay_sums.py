"""Buffers that accumulate the effect of weight decay on a network's matrices since the previous checkpoint.

They are saved with the weights, under the parameter's name and a suffix; the network's computation ignores them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import nn

    from specdyn.models.spec.run_spec import RunSpec

SUM = "_decay_sum"
"""Suffix of the sum of what decay added to a parameter in the updates since `SINCE`."""
VELOCITY = "_decay_velocity"
"""Suffix of decay's share of the optimizer's momentum, if decay passes through it."""
SINCE = "decay_since"
"""The step after which the sums begin, -1 before the first update."""


def has_velocity(spec: RunSpec) -> bool:
    """Whether decay passes through the optimizer's momentum, as the L2 term of sgd and sam does."""
    return spec.decay.kind == "l2" and spec.optimizer.name in ("sgd", "sam") and spec.optimizer.momentum > 0


def add_decay_sums(spec: RunSpec, net: nn.Module) -> None:
    """Add zeroed buffers for each trained matrix, if the spec records decay."""
    import torch

    if not spec.record.decay:
        return
    for name, parameter in list(net.named_parameters()):
        if parameter.ndim >= 2 and parameter.requires_grad:
            module, _, own = name.rpartition(".")
            for suffix in (SUM, VELOCITY) if has_velocity(spec) else (SUM,):
                net.get_submodule(module).register_buffer(own + suffix, torch.zeros_like(parameter.detach()))
    net.register_buffer(SINCE, torch.tensor(-1))


def is_of_decay(name: str) -> bool:
    """Whether a tensor of a checkpoint is one of these buffers."""
    return name.endswith((SUM, VELOCITY)) or name == SINCE
