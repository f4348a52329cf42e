"""The paper's pre-LayerNorm transformer, which computes only the positions that the loss uses (METHOD 1.1, 1.5).

Shapes: B batch, T positions, D width, H heads, K = D/H, V vocabulary.
"""

import math
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.weak import WeakTensorKeyDictionary

from specdyn.models.nets.matrices import LayerPair, Matrix
from specdyn.models.spec.architectures import Transformer


def positional_table(length: int, width: int) -> Tensor:
    """Sinusoidal positions (T, D): sine in even, cosine in odd columns, base 10000."""
    table_TD = torch.zeros(length, width)
    if table_TD.is_meta:  # computing on the meta device would import torch's compiler
        return table_TD
    position_T1 = torch.arange(length).unsqueeze(1)
    frequency = torch.exp(torch.arange(0, width, 2) * (-math.log(10000.0) / width))
    table_TD[:, 0::2] = torch.sin(position_T1 * frequency)
    table_TD[:, 1::2] = torch.cos(position_T1 * frequency)[:, : width // 2]
    return table_TD


class PositionalEncoder(nn.Module):
    """Adds the constant positional table, which is not stored in checkpoints."""

    pe: Tensor

    def __init__(self, length: int, width: int) -> None:
        super().__init__()
        self.register_buffer("pe", positional_table(length, width), persistent=False)

    def forward(self, x_BTD: Tensor) -> Tensor:
        return x_BTD + self.pe[: x_BTD.shape[1]]


class Embedding(nn.Embedding):
    """`nn.Embedding` that does not import torch's compiler when built on the meta device."""

    def reset_parameters(self) -> None:
        """Draw the weights unless on the meta device, where drawing would import torch's compiler."""
        if not self.weight.is_meta:
            super().reset_parameters()


ENDS = WeakTensorKeyDictionary()
"""Cache of batches whose inputs all end in the same token: batch -> (version, token), to query a GPU only once."""


class TransformerNet(nn.Module):
    """Tokens (B, T) to logits of the last position (B, V), or of all positions (B, T, V).

    Parameter names are those of `nn.TransformerEncoder`, so published checkpoints load. As published, all
    layers start with the same weights, since torch copies the first. `last_token` is the token in which all inputs
    end, if they do.
    """

    def __init__(self, config: Transformer, vocabulary: int, length: int, last_token: int | None = None) -> None:
        super().__init__()
        self.config, self._last_token = config, last_token
        self.train_by_tables = False
        """Use `_by_tables` with gradients too; without gradients it is used whenever possible."""
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
        """Logits; with `last_only` the last layer computes only keys and values at all positions, the rest at the last.

        Without gradients, the projections of the first layer are computed once per distinct token and position,
        if these are fewer than the rows of the batch. No table is used while a layer has a hook, as hooks expect
        each layer to be called with the inputs of the batch.
        """
        wanted_by_tables = last_only and (self.train_by_tables or not torch.is_grad_enabled())
        can_use_tables = wanted_by_tables and self.has_tables(len(tokens_BT)) and not self._is_watched()
        if can_use_tables and self._end_alike(tokens_BT):
            return self._by_tables(tokens_BT)
        blocks = list(self.transformer_encoder.layers)
        every, last = slice(None), slice(-1, None)
        wanted = [every] * (len(blocks) - 1) + [last if last_only else every]
        few_tokens = not torch.is_grad_enabled() and len(self.encoder.weight) < len(tokens_BT)
        if few_tokens and not self._is_watched():
            x_BTD = self._block(blocks[0], *self._from_table(blocks[0], tokens_BT, wanted[0]))
            blocks, wanted = blocks[1:], wanted[1:]
        else:
            x_BTD = self._embedded(tokens_BT)
        for block, queries in zip(blocks, wanted, strict=True):
            x_BTD = self._block(block, x_BTD[:, queries], *self._project(block, x_BTD, queries))
        logits_BTV = self.decoder(x_BTD)
        return logits_BTV[:, -1] if last_only else logits_BTV

    def _is_watched(self) -> bool:
        """Whether a layer has a hook, which a table would bypass; hooks of the whole network do not count."""
        waiting = list(self._modules.values())
        while waiting:  # takes a third of the time of `modules()`, at every step
            layer = waiting.pop()
            if layer is None:
                continue
            if layer._forward_hooks or layer._forward_pre_hooks or layer._backward_hooks or layer._backward_pre_hooks:
                return True
            waiting += layer._modules.values()
        return False

    def has_tables(self, rows: int) -> bool:
        """Whether tables per token are cheaper for the logits of this many inputs that end in the same token."""
        return self._last_token is not None and self.config.depth == 1 and rows > len(self.encoder.weight)

    def _end_alike(self, tokens_BT: Tensor) -> bool:
        """Whether all inputs end in `last_token`; each batch is checked once unless it is modified."""
        known = None if tokens_BT.is_inference() else (tokens_BT._version, self._last_token)
        if known and ENDS.get(tokens_BT) == known:
            return True
        alike = bool(tokens_BT[:, -1].eq(self._last_token or 0).all())
        if known and alike:
            ENDS[tokens_BT] = known
        return alike

    def _by_tables(self, tokens_BT: Tensor) -> Tensor:
        """Logits of the last position of a single block, for inputs that all end in the same token.

        The query of the last position is the same for all inputs, so the score, key and value depend only on token
        and position: they are computed once for each and looked up. Since attention weights add up to 1, the sum is
        written as the last position's own value plus weighted differences from it.
        """
        block = self.transformer_encoder.layers[0]
        (vocabulary, width), heads, before = self.encoder.weight.shape, self.config.heads, tokens_BT.shape[1] - 1
        scaled_VD = self.encoder.weight * math.sqrt(width)
        x_PVD = scaled_VD + self.pos_encoder.pe[:before, None]
        last_1D = scaled_VD[self._last_token :][:1] + self.pos_encoder.pe[before]
        q_11D, kv_1RE = self._project(block, torch.cat([x_PVD.flatten(0, 1), last_1D])[None], slice(-1, None))
        k_RD, v_RD = kv_1RE[0].chunk(2, dim=-1)
        scores_RH = (k_RD * q_11D[0]).unflatten(-1, (heads, -1)).sum(-1) / math.sqrt(width // heads)
        apart_RD = v_RD - v_RD[-1]
        rows = [slice(position * vocabulary, (position + 1) * vocabulary) for position in range(before)]
        looked_up = list(zip(tokens_BT.T.contiguous()[:before], rows, strict=True))
        scores_TBH = [F.embedding(column_B, scores_RH[row]) for column_B, row in looked_up]
        weights_TBH = torch.stack([*scores_TBH, scores_RH[-1].expand(len(tokens_BT), -1)]).softmax(0)
        mixed_BHK = v_RD[-1].view(heads, -1).expand(len(tokens_BT), -1, -1)
        for weights_BH, (column_B, row) in zip(weights_TBH[:before], looked_up, strict=True):
            apart_BHK = F.embedding(column_B, apart_RD[row]).unflatten(-1, (heads, -1))
            mixed_BHK = torch.addcmul(mixed_BHK, weights_BH[..., None], apart_BHK)
        out = block.self_attn.out_proj
        x_BD = F.linear(mixed_BHK.flatten(1), out.weight, out.bias + last_1D[0])
        if torch.is_grad_enabled() or vocabulary >= width:
            return self.decoder(self._feed_forward(block, x_BD))
        # Only the decoder reads the output of the hidden units: merge the two products into one if that is cheaper.
        read_VF = self.decoder.weight @ block.linear2.weight
        bias_V = self.decoder.bias + self.decoder.weight @ block.linear2.bias
        hidden_BF = F.relu(block.linear1(block.norm2(x_BD)), inplace=True)
        return torch.addmm(F.linear(x_BD, self.decoder.weight, bias_V), hidden_BF, read_VF.T)

    def _embedded(self, tokens_BT: Tensor) -> Tensor:
        return self.pos_encoder(self.encoder(tokens_BT) * math.sqrt(self.config.width))

    def _project(self, block: nn.Module, x_BTD: Tensor, queries: slice) -> tuple[Tensor, Tensor]:
        """Queries (B, Q, D) of some positions, and joined keys and values (B, T, 2 D) of all, of normalised inputs."""
        attention, width = block.self_attn, self.config.width
        weight, bias = attention.in_proj_weight, attention.in_proj_bias  # type: ignore[union-attr]
        normed_BTD = block.norm1(x_BTD)  # type: ignore[operator]
        q_BQD = F.linear(normed_BTD[:, queries], weight[:width], bias[:width])  # type: ignore[index]
        return q_BQD, F.linear(normed_BTD, weight[width:], bias[width:])  # type: ignore[index]

    def _from_table(self, block: nn.Module, tokens_BT: Tensor, queries: slice) -> tuple[Tensor, Tensor, Tensor]:
        """Inputs (B, Q, D), queries, and keys with values of the first block, looked up by token and position."""
        positions = torch.arange(tokens_BT.shape[1], device=tokens_BT.device)
        every_VT = torch.arange(len(self.encoder.weight), device=tokens_BT.device)[:, None].expand(-1, len(positions))
        x_VTD = self._embedded(every_VT)
        q_VQD, kv_VTE = self._project(block, x_VTD, queries)
        at = tokens_BT[:, queries], torch.arange(q_VQD.shape[1], device=tokens_BT.device)
        return x_VTD[:, queries][at], q_VQD[at], kv_VTE[tokens_BT, positions]

    def _block(self, block: nn.Module, x_BQD: Tensor, q_BQD: Tensor, kv_BTE: Tensor) -> Tensor:
        """The output of one pre-norm block, only at the query positions."""
        return self._feed_forward(block, x_BQD + self._attend(block.self_attn, q_BQD, kv_BTE))  # type: ignore[arg-type]

    def _feed_forward(self, block: nn.Module, x_BQD: Tensor) -> Tensor:
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
    """The inter-layer pairs of METHOD 4.4, then each head's values with its columns of the output projection."""
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
