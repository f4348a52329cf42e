"""The paper's pre-LayerNorm transformer, computing no more positions than the loss uses (METHOD 1.1, 1.5).

Shapes: B batch, T positions, D width, H heads, K = D/H, V vocabulary.
"""

import math
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from specdyn.models.nets.matrices import LayerPair, Matrix
from specdyn.models.spec.architectures import Transformer


def positional_table(length: int, width: int) -> Tensor:
    """Sinusoidal positions (T, D): sine in even, cosine in odd columns, base 10000."""
    table_TD = torch.zeros(length, width)
    if table_TD.is_meta:  # a network without its weights: to compute with it, torch would import its compiler
        return table_TD
    position_T1 = torch.arange(length).unsqueeze(1)
    frequency = torch.exp(torch.arange(0, width, 2) * (-math.log(10000.0) / width))
    table_TD[:, 0::2] = torch.sin(position_T1 * frequency)
    table_TD[:, 1::2] = torch.cos(position_T1 * frequency)[:, : width // 2]
    return table_TD


class PositionalEncoder(nn.Module):
    """Adds the constant positional table, which is built and not stored in checkpoints."""

    pe: Tensor

    def __init__(self, length: int, width: int) -> None:
        super().__init__()
        self.register_buffer("pe", positional_table(length, width), persistent=False)

    def forward(self, x_BTD: Tensor) -> Tensor:
        return x_BTD + self.pe[: x_BTD.shape[1]]


class Embedding(nn.Embedding):
    """torch's, without the import of torch's compiler where a network is built without its weights."""

    def reset_parameters(self) -> None:
        """Draw the weights where there is memory for them: without any, torch draws by code of its compiler."""
        if not self.weight.is_meta:
            super().reset_parameters()


class TransformerNet(nn.Module):
    """Tokens (B, T) to logits of the last position (B, V), or of all positions (B, T, V).

    Parameter names are torch's own for `nn.TransformerEncoder`, so published checkpoints load. As published, all
    layers start with the same weights: torch copies the one that it is given.
    """

    def __init__(self, config: Transformer, vocabulary: int, length: int) -> None:
        super().__init__()
        self.config = config
        self.encoder = Embedding(vocabulary, config.width)
        self.pos_encoder = PositionalEncoder(length, config.width)
        layer = nn.TransformerEncoderLayer(
            config.width, config.heads, config.feedforward, dropout=0.0, norm_first=True, batch_first=True
        )
        if not config.layernorm:
            layer.norm1 = layer.norm2 = nn.Identity()  # type: ignore[assignment]
        self.transformer_encoder = nn.TransformerEncoder(layer, config.depth, enable_nested_tensor=False)
        self.decoder = nn.Linear(config.width, vocabulary)
        nn.init.uniform_(self.encoder.weight, -0.1, 0.1)
        nn.init.uniform_(self.decoder.weight, -0.1, 0.1)
        nn.init.zeros_(self.decoder.bias)

    def forward(self, tokens_BT: Tensor, last_only: bool = True) -> Tensor:
        """Logits; with `last_only` the last layer computes keys and values everywhere, all else once.

        Without gradients the projections of the first layer are made once for each token and position that there is,
        where these are fewer than the rows of the batch.
        """
        blocks = list(self.transformer_encoder.layers)
        every, last = slice(None), slice(-1, None)
        wanted = [every] * (len(blocks) - 1) + [last if last_only else every]
        if not torch.is_grad_enabled() and len(self.encoder.weight) < len(tokens_BT):
            x_BTD = self._block(blocks[0], *self._from_table(blocks[0], tokens_BT, wanted[0]))
            blocks, wanted = blocks[1:], wanted[1:]
        else:
            x_BTD = self._embedded(tokens_BT)
        for block, queries in zip(blocks, wanted, strict=True):
            x_BTD = self._block(block, x_BTD[:, queries], *self._project(block, x_BTD, queries))
        logits_BTV = self.decoder(x_BTD)
        return logits_BTV[:, -1] if last_only else logits_BTV

    def _embedded(self, tokens_BT: Tensor) -> Tensor:
        return self.pos_encoder(self.encoder(tokens_BT) * math.sqrt(self.config.width))

    def _project(self, block: nn.Module, x_BTD: Tensor, queries: slice) -> tuple[Tensor, Tensor]:
        """Queries (B, Q, D) of some positions, and keys beside values (B, T, 2 D) of all, of normalised inputs."""
        attention, width = block.self_attn, self.config.width
        weight, bias = attention.in_proj_weight, attention.in_proj_bias  # type: ignore[union-attr]
        normed_BTD = block.norm1(x_BTD)  # type: ignore[operator]
        q_BQD = F.linear(normed_BTD[:, queries], weight[:width], bias[:width])  # type: ignore[index]
        return q_BQD, F.linear(normed_BTD, weight[width:], bias[width:])  # type: ignore[index]

    def _from_table(self, block: nn.Module, tokens_BT: Tensor, queries: slice) -> tuple[Tensor, Tensor, Tensor]:
        """Inputs (B, Q, D), queries, and keys beside values of the first block, looked up by token and position."""
        positions = torch.arange(tokens_BT.shape[1], device=tokens_BT.device)
        every_VT = torch.arange(len(self.encoder.weight), device=tokens_BT.device)[:, None].expand(-1, len(positions))
        x_VTD = self._embedded(every_VT)
        q_VQD, kv_VTE = self._project(block, x_VTD, queries)
        at = tokens_BT[:, queries], torch.arange(q_VQD.shape[1], device=tokens_BT.device)
        return x_VTD[:, queries][at], q_VQD[at], kv_VTE[tokens_BT, positions]

    def _block(self, block: nn.Module, x_BQD: Tensor, q_BQD: Tensor, kv_BTE: Tensor) -> Tensor:
        """One pre-norm block, its output only at the query positions."""
        x_BQD = x_BQD + self._attend(block.self_attn, q_BQD, kv_BTE)  # type: ignore[arg-type]
        hidden = F.relu(block.linear1(block.norm2(x_BQD)), inplace=True)  # type: ignore[operator]
        return x_BQD + block.linear2(hidden)  # type: ignore[operator]

    def _attend(self, attention: nn.MultiheadAttention, q_BQD: Tensor, kv_BTE: Tensor) -> Tensor:
        """Causal self-attention for the query positions, over keys and values of all positions."""
        heads = self.config.heads
        q, k, v = (part.unflatten(-1, (heads, -1)).transpose(1, 2) for part in (q_BQD, *kv_BTE.chunk(2, dim=-1)))
        # A single query is the last position, which sees every key: no mask.
        mixed_BHQK = F.scaled_dot_product_attention(q, k, v, is_causal=q.shape[2] > 1)
        return attention.out_proj(mixed_BHQK.transpose(1, 2).flatten(2))


class LanguageModel(TransformerNet):
    """Tokens (B, T) to logits of all positions (B, T, V)."""

    def forward(self, tokens_BT: Tensor, last_only: bool = False) -> Tensor:
        return super().forward(tokens_BT, last_only)


def qkv_part(config: Transformer, parameter: str, part: str, heads: int = 0) -> Matrix:
    """The query, key or value rows of a fused in-projection, whole or split per head."""
    start = ("query", "key", "value").index(part) * config.width
    return Matrix(parameter=parameter, part=part, rows=(start, start + config.width), heads=heads)


def head_pair(config: Transformer, fused: str, out: str) -> LayerPair:
    """Each head's value rows with the columns of the output projection that read them; not in the paper."""
    heads = config.heads
    values = replace(qkv_part(config, fused, "value", heads), part="value by head")
    return LayerPair(writer=values, reader=Matrix(parameter=out, part="by head", heads=heads, split="columns"))


def transformer_pairs(config: Transformer) -> tuple[LayerPair, ...]:
    """The inter-layer pairs of METHOD 4.4, then what each head's values write and its output columns read."""
    before = Matrix(parameter="encoder.weight")
    # An embedding is (tokens, D): its output directions are its right vectors.
    pairs, before_vectors = [], "right"
    for depth in range(config.depth):
        prefix = f"transformer_encoder.layers.{depth}."
        fused = Matrix(parameter=prefix + "self_attn.in_proj_weight")
        out, up, down = (
            Matrix(parameter=prefix + name)
            for name in ("self_attn.out_proj.weight", "linear1.weight", "linear2.weight")
        )
        query, key = (qkv_part(config, fused.parameter, part, config.heads) for part in ("query", "key"))
        pairs += [
            LayerPair(writer=before, reader=fused, writer_vectors=before_vectors),  # type: ignore[arg-type]
            LayerPair(writer=key, reader=query, reader_vectors="left"),
            LayerPair(writer=qkv_part(config, fused.parameter, "value"), reader=out),
            head_pair(config, fused.parameter, out.parameter),
            LayerPair(writer=out, reader=up),
            LayerPair(writer=up, reader=down),
        ]
        before, before_vectors = down, "left"
    return (*pairs, LayerPair(writer=before, reader=Matrix(parameter="decoder.weight")))
