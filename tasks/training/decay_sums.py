"""Sums the effect of weight decay on each matrix over the updates since the last checkpoint.

In an update W' - W, decay's part is -eta lambda W for adamw and muon, whose decay is decoupled. For sgd and sam it is
-eta v, where v <- mu v + lambda W is the L2 term's share of the momentum, which is linear in its inputs; with Nesterov
momentum it is -eta (lambda W + mu v). For the nuclear norm it is the change by the proximal step. The gradient's part
is the rest, including corrections by controlled norms or a mask. Recording does not change the weights in any bit.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from specdyn.models.nets.decay_sums import SINCE, SUM, VELOCITY, has_velocity
from specdyn.models.spec.run_spec import RunSpec


class DecaySums:
    """Accumulates the sums in buffers of the network."""

    def __init__(self, spec: RunSpec, net: nn.Module, decayed: set[str]) -> None:
        buffers = dict(net.named_buffers())
        self._since = buffers[SINCE]
        self._sums = {name.removesuffix(SUM): sum for name, sum in buffers.items() if name.endswith(SUM)}
        self._velocities = {name: buffers[name + VELOCITY] for name in self._sums} if has_velocity(spec) else {}
        self._weights = {name: net.get_parameter(name) for name in self._sums if name in decayed}
        self._momentum, self._nesterov = spec.optimizer.momentum, spec.optimizer.nesterov

    @torch.no_grad()
    def begin(self, step: int) -> None:
        """Reset the sums and accumulate from this step on."""
        self._since.fill_(step)
        for sum in self._sums.values():
            sum.zero_()

    @torch.no_grad()
    def before(self, rate: float, l2: float) -> Mapping[str, tuple[Tensor, Tensor]]:
        """For each matrix, what decay will add in the next update, and the resulting velocity."""
        found = {}
        for name, w in self._weights.items():
            force = l2 * w
            if not self._velocities:
                found[name] = (-rate * force, force)
                continue
            velocity = self._momentum * self._velocities[name] + force
            found[name] = (-rate * (force + self._momentum * velocity if self._nesterov else velocity), velocity)
        return found

    @torch.no_grad()
    def add(self, changes: Mapping[str, tuple[Tensor, Tensor]]) -> None:
        """Add the changes made by an update."""
        for name, (change, velocity) in changes.items():
            self._sums[name] += change
            if self._velocities:
                self._velocities[name].copy_(velocity)

    def weights(self) -> dict[str, Tensor]:
        """Copies of the matrices that decay."""
        return {name: w.detach().clone() for name, w in self._weights.items()}

    @torch.no_grad()
    def add_since(self, before: Mapping[str, Tensor]) -> None:
        """Add the changes of the matrices since `before`."""
        for name, w in before.items():
            self._sums[name] += self._weights[name] - w
