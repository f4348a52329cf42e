"""Fully connected network with ReLU between its layers (METHOD 1.1, 1.2)."""

import itertools

from torch import Tensor, nn
from torch.nn import functional as F

from specdyn.models.spec.architectures import Mlp


class MlpNet(nn.Module):
    """Inputs (B, inputs), or images flattened to that, to outputs (B, outputs); layers are layers.0, layers.1, ..."""

    def __init__(self, config: Mlp, inputs: int, outputs: int) -> None:
        super().__init__()
        sizes = (inputs, *[config.width] * config.hidden_layers, outputs)
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in itertools.pairwise(sizes))

    def forward(self, x: Tensor) -> Tensor:
        """Outputs of the last layer, without ReLU."""
        x = x.flatten(1)
        for layer in self.layers[:-1]:
            x = F.relu(layer(x))
        return self.layers[-1](x)
