"""The paper's transformer from torch's own layers: all positions, additive causal mask, sequence first."""

import math

import torch
from torch import Tensor, nn

from specdyn.models.nets.transformer import TransformerNet


def positions(length: int, width: int) -> Tensor:
    """sin(t / 10000^(2k/D)) in column 2k, the cosine in column 2k + 1, one entry at a time."""
    table = torch.zeros(length, width)
    for t in range(length):
        for column in range(width):
            angle = t / 10000.0 ** ((column - column % 2) / width)
            table[t, column] = math.cos(angle) if column % 2 else math.sin(angle)
    return table


class TorchTransformer(nn.Module):
    """`nn.TransformerEncoder` with the weights of a TransformerNet; logits of every position (B, T, V)."""

    def __init__(self, net: TransformerNet, length: int) -> None:
        super().__init__()
        config = net.config
        self.width = config.width
        self.table = positions(length, config.width)
        self.encoder = nn.Embedding(*net.encoder.weight.shape)
        layer = nn.TransformerEncoderLayer(
            config.width, config.heads, config.feedforward, dropout=0.0, norm_first=True, batch_first=False
        )
        if not config.layernorm:
            layer.norm1, layer.norm2 = nn.Identity(), nn.Identity()
        self.transformer_encoder = nn.TransformerEncoder(layer, config.depth, enable_nested_tensor=False)
        self.decoder = nn.Linear(*reversed(net.decoder.weight.shape))
        self.load_state_dict(net.state_dict(), strict=True)

    def forward(self, tokens_BT: Tensor) -> Tensor:
        length = tokens_BT.shape[1]
        x_TBD = self.encoder(tokens_BT.T) * math.sqrt(self.width) + self.table[:length, None]
        mask_TT = torch.full((length, length), float("-inf")).triu(1)
        return self.decoder(self.transformer_encoder(x_TBD, mask=mask_TT)).transpose(0, 1)
