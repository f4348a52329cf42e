"""Examples: one split of a data set in the form of a network's input."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

    import torch
    from torch import Tensor


class Examples(NamedTuple):
    """Inputs and targets of one split, aligned along their first axis; sequences padded to one length."""

    inputs: Tensor
    targets: Tensor
    lengths: Tensor | None = None
    """For sequences: the length of each input, whose second axis is time."""

    def to(self, device: torch.device) -> Examples:
        """The same examples on a device."""
        lengths = None if self.lengths is None else self.lengths.to(device)
        return Examples(self.inputs.to(device), self.targets.to(device), lengths)

    def take(self, chosen: Tensor | slice) -> Examples:
        """Some of the examples as a batch; sequences are padded no further than the longest of them."""
        inputs, targets = self.inputs[chosen], self.targets[chosen]
        if self.lengths is None:
            return Examples(inputs, targets)
        lengths = self.lengths[chosen]
        return Examples(inputs[:, : int(lengths.max())], targets, lengths)

    def batches(self, size: int) -> Iterator[Examples]:
        """The examples in order, in batches of `size`; a smaller last batch is kept."""
        for start in range(0, len(self.targets), size):
            yield self.take(slice(start, start + size))
