"""Buffers beside a network's matrices for what weight decay has done to them since the checkpoint before.

They are saved with the weights, under the parameter's name and a suffix; nothing that the network computes reads them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import nn

    from specdyn.models.spec.run_spec import RunSpec

SUM = "_decay_sum"
"""After a parameter's name: the sum of what decay added to it in the updates since `SINCE`."""
VELOCITY = "_decay_velocity"
"""After a parameter's name: the decay's share of the optimizer's momentum, where it goes through that."""
SINCE = "decay_since"
"""The step after which the sums begin, -1 before the first update."""


def has_velocity(spec: RunSpec) -> bool:
    """Whether decay goes through the optimizer's momentum: the L2 term of sgd and sam does."""
    return spec.decay.kind == "l2" and spec.optimizer.name in ("sgd", "sam") and spec.optimizer.momentum > 0


def add_decay_sums(spec: RunSpec, net: nn.Module) -> None:
    """Give each trained matrix its buffers, all zero, where the spec records its decay."""
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
