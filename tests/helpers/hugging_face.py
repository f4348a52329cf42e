"""Small networks of `transformers`, run with arbitrary weights in the format of their files."""

import functools
import tempfile
from collections.abc import Mapping
from typing import Any

import torch
import transformers
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.func import functional_call

from specdyn.models.nets.matrices import LayerPair, Matrix

SMALL = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 20, "vocab_size": 30}
GROUPED = {**SMALL, "num_key_value_heads": 2, "pad_token_id": 0}
WIDE = {**GROUPED, "head_dim": 8}
PICTURES = {**SMALL, "image_size": 8, "patch_size": 4}
EXPERTS = {"num_experts_per_tok": 2, "output_router_logits": False}
CONFIGS: dict[str, tuple[str, dict[str, Any]]] = {
    "GPT2LMHeadModel": ("GPT2Config", {"n_embd": 16, "n_layer": 2, "n_head": 4, "n_positions": 8, "vocab_size": 30}),
    "GPTNeoXForCausalLM": ("GPTNeoXConfig", SMALL),
    "LlamaForCausalLM": ("LlamaConfig", GROUPED),
    "Qwen3ForCausalLM": ("Qwen3Config", WIDE),
    "MistralForCausalLM": ("MistralConfig", GROUPED),
    "Gemma2ForCausalLM": ("Gemma2Config", WIDE),
    "Olmo2ForCausalLM": ("Olmo2Config", GROUPED),
    "Phi3ForCausalLM": ("Phi3Config", GROUPED),
    "MixtralForCausalLM": ("MixtralConfig", {**GROUPED, **EXPERTS, "num_local_experts": 2}),
    "GptOssForCausalLM": ("GptOssConfig", {**WIDE, **EXPERTS, "num_local_experts": 2}),
    "Qwen3MoeForCausalLM": ("Qwen3MoeConfig", {**WIDE, **EXPERTS, "num_experts": 2, "moe_intermediate_size": 12}),
    "BertForMaskedLM": ("BertConfig", {**SMALL, "max_position_embeddings": 8}),
    "RobertaForSequenceClassification": ("RobertaConfig", {**SMALL, "max_position_embeddings": 10, "num_labels": 3}),
    "T5ForConditionalGeneration": (
        "T5Config",
        {"d_model": 16, "d_kv": 4, "d_ff": 24, "num_layers": 2, "num_heads": 4, "vocab_size": 30},
    ),
    "ViTForImageClassification": ("ViTConfig", {**PICTURES, "num_labels": 3}),
    "DeiTForImageClassification": ("DeiTConfig", {**PICTURES, "num_labels": 3}),
    "ResNetForImageClassification": (
        "ResNetConfig",
        {"embedding_size": 8, "hidden_sizes": [16, 32], "depths": [1, 2], "num_labels": 3},
    ),
    "MambaForCausalLM": (
        "MambaConfig",
        {"hidden_size": 16, "num_hidden_layers": 2, "state_size": 4, "time_step_rank": 3, "vocab_size": 30},
    ),
}


Change = tuple[Matrix, slice | int, slice | int, float]
"""Rows and columns of a matrix, and by how much to change its entries there."""


class Network:
    """A network with the tensors of its file, which may have other names and shapes than those in memory."""

    def __init__(self, kind: str, **settings: Any) -> None:
        torch.manual_seed(0)
        of, usual = CONFIGS[kind]
        config = getattr(transformers, of)(**{**usual, **settings}, **_quiet(of))
        self.net: nn.Module = getattr(transformers, kind)(config).double().eval()
        for name, parameter in self.net.named_parameters():
            # Far from initialisation, whose weights are too small for second-order effects.
            nn.init.normal_(parameter, 1.0 if _scales(name, parameter) else 0.0, 0.3)
        self.held = {n: w.detach().clone() for n, w in self._tensors().items()}
        self.start = dict(zip(self.held, self._starts(), strict=True))
        self.places, self.config = self._file()
        whole = self.flat(self.held)
        self.weights = {name: whole[place] for name, place in self.places.items()}
        self.inputs = _inputs(kind)

    def _tensors(self) -> dict[str, Tensor]:
        """Parameters, tied ones once, and buffers in floating point."""
        buffers = {name: buffer for name, buffer in self.net.named_buffers() if buffer.is_floating_point()}
        return {**dict(self.net.named_parameters()), **buffers}

    def _fill(self, tensors: Mapping[str, Tensor]) -> None:
        with torch.no_grad():
            for name, tensor in self._tensors().items():
                tensor.copy_(tensors[name])

    def _starts(self) -> list[int]:
        sizes = [tensor.numel() for tensor in self.held.values()]
        return [sum(sizes[:i]) for i in range(len(sizes))]

    def flat(self, tensors: Mapping[str, Tensor]) -> Tensor:
        """All numbers of a network as one vector."""
        return torch.cat([tensor.flatten() for tensor in tensors.values()])

    def _file(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """The position in memory of each number in the file, found by saving the positions as values."""
        numbered = {n: torch.arange(w.numel()).double().view(w.shape) + self.start[n] for n, w in self.held.items()}
        self._fill(numbered)
        with tempfile.TemporaryDirectory() as folder:
            self.net.save_pretrained(folder)
            found = load_file(f"{folder}/model.safetensors")
        self._fill(self.held)
        return {name: place.long() for name, place in found.items()}, self.net.config.to_dict()

    @functools.cached_property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Shapes of the tensors in the file."""
        return {name: tuple(place.shape) for name, place in self.places.items()}

    def output(self, weights: Mapping[str, Tensor]) -> Tensor:
        """The network's output with the tensors of a file."""
        flat = self.flat(self.held).clone()
        for name, w in weights.items():
            flat[self.places[name]] = w
        sizes = [w.numel() for w in self.held.values()]
        parts = [part.view(w.shape) for part, w in zip(flat.split(sizes), self.held.values(), strict=True)]
        with torch.no_grad():
            given = dict(zip(self.held, parts, strict=True))
            return functional_call(self.net, given, (), self.inputs).logits  # type: ignore[no-any-return]

    def module_of(self, matrix: Matrix) -> nn.Module | None:
        """The module that multiplies its input by a matrix; None if it has several, such as experts."""
        place = int(self.places[matrix.parameter].min())
        name = next(name for name in reversed(self.start) if self.start[name] <= place)
        module = self.net.get_submodule(name.rpartition(".")[0])
        if isinstance(module, nn.Embedding):  # whose weights the head shares
            return self.net.get_output_embeddings()  # type: ignore[operator, no-any-return]
        return module if self.held[name].ndim != 3 else None

    def changed(self, *changes: Change, instead: Mapping[str, Tensor] | None = None) -> Tensor:
        """The output with some entries of matrices changed, and some tensors replaced."""
        weights = {name: w.clone() for name, w in {**self.weights, **(instead or {})}.items()}
        for matrix, rows, columns, size in changes:
            place = torch.arange(weights[matrix.parameter].numel()).view(weights[matrix.parameter].shape)
            entries = matrix.of({matrix.parameter: place})[..., rows, columns].flatten()
            draw = torch.Generator().manual_seed(len(entries))
            moved = weights[matrix.parameter].flatten()
            moved[entries] += size * torch.randn(len(entries), generator=draw, dtype=torch.float64)
            weights[matrix.parameter] = moved.view(weights[matrix.parameter].shape)
        return self.output(weights)


def received(net: Network, pair: LayerPair, written: int) -> Tensor:
    """How each coordinate of the reader's input changes with one coordinate of the writer's output."""
    writes = (slice(None), written) if pair.writer_vectors == "right" else (written, slice(None))
    change = (pair.writer, *writes, 1e-3)
    module = net.module_of(pair.reader)

    def through() -> Tensor:
        shared = width(net, pair)
        times = torch.ones(shared)
        for read in {written, (written + 1) % shared, (written + shared // 2) % shared}:
            times[read] = _through(net, pair, change, read)
        return times

    if module is None:
        return through()
    seen: list[Tensor] = []
    handle = module.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    try:
        net.changed(), net.changed(change)
    finally:
        handle.remove()
    if not seen:  # its weights are used without calling it
        return through()
    before, after = (x.flatten(2).mT if x.ndim == 4 else x for x in seen)
    return (after - before).flatten(0, -2).norm(dim=0)


def _through(net: Network, pair: LayerPair, change: Change, read: int) -> float:
    """The factor by which a change has less effect if the reader ignores a coordinate."""
    w = net.weights[pair.reader.parameter]
    column = pair.reader.of({pair.reader.parameter: torch.arange(w.numel()).view(w.shape)})[:, read]
    blind = {pair.reader.parameter: w.flatten().index_fill(0, column.flatten(), 0.0).view(w.shape)}
    usual, left = (float((net.changed(change, **of) - net.changed(**of)).norm()) for of in ({}, {"instead": blind}))
    return usual / (left + 1e-9 * usual)


def width(net: Network, pair: LayerPair) -> int:
    """The shared width of writer and reader."""
    rows, columns = pair.writer.shape(net.shapes[pair.writer.parameter])
    return columns if pair.writer_vectors == "right" else rows


def _scales(name: str, parameter: Tensor) -> bool:
    return parameter.ndim == 1 and name.endswith("weight")


def _quiet(config: str) -> dict[str, Any]:
    """Config without dropout (off in eval mode anyway), and with attention that supports float64."""
    experts = (
        {"experts_implementation": "eager"} if config in ("MixtralConfig", "GptOssConfig", "Qwen3MoeConfig") else {}
    )
    return {} if config in ("ResNetConfig", "MambaConfig") else {"attn_implementation": "eager", **experts}


def _inputs(kind: str) -> dict[str, Tensor]:
    draw = torch.Generator().manual_seed(1)
    if "Image" in kind:
        size = 32 if kind.startswith("ResNet") else 8
        return {"pixel_values": torch.randn(2, 3, size, size, generator=draw, dtype=torch.float64)}
    tokens = torch.randint(2, 30, (2, 5), generator=draw)
    return {"input_ids": tokens} | ({"decoder_input_ids": tokens.flip(1)} if kind.startswith("T5") else {})
