"""The weights that a network computes with, against torch's own modules and against formats written by hand."""

import json
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations, prune, spectral_norm, weight_norm

from helpers.read import InMemory, laid_out, resolved, skipped
from specdyn.tasks.foreign.weights.quantised import Quantised
from specdyn.tasks.foreign.weights.resolved import ResolvedWeights


def draw(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape)))


def fit(weights: ResolvedWeights, name: str, expected: Tensor) -> None:
    """A weight has that value, and the shape and type that are told before it is read."""
    assert weights.shapes[name] == tuple(expected.shape) and weights.dtypes[name] == torch.float32
    torch.testing.assert_close(weights[name], expected.float(), rtol=1e-5, atol=1e-6)


def layers() -> list[nn.Module]:
    torch.manual_seed(0)
    return [nn.Linear(6, 5), nn.Conv2d(3, 4, 3), nn.ConvTranspose2d(3, 4, 2), nn.Linear(4, 4)]


@pytest.mark.parametrize("layer", layers(), ids=["linear", "conv", "transposed", "square"])
@pytest.mark.parametrize(
    "made", [weight_norm, spectral_norm, parametrizations.weight_norm, parametrizations.spectral_norm]
)
@pytest.mark.filterwarnings("ignore:.*weight_norm.*deprecated:FutureWarning")
def test_normalised_weights_match_torch(layer: nn.Module, made: Any) -> None:
    net = nn.Sequential(made(type(layer)(*sizes_of(layer)))).eval()
    weights = resolved(net.state_dict())
    with torch.no_grad():
        net(torch.randn(2, *input_of(layer)))  # old spectral norm makes its weight only then
        fit(weights, "0.weight", net[0].weight)
    left_out = skipped(laid_out(net.state_dict()))
    assert [name for name in weights.shapes if len(weights.shapes[name]) > 1] == ["0.weight"]
    assert left_out and all("normalisation" in why or "power iteration" in why for why in left_out.values())


def sizes_of(layer: nn.Module) -> tuple[int, ...]:
    if isinstance(layer, nn.Linear):
        return layer.in_features, layer.out_features
    return layer.in_channels, layer.out_channels, layer.kernel_size[0]  # type: ignore[union-attr, index, return-value]


def input_of(layer: nn.Module) -> tuple[int, ...]:
    return (layer.in_features,) if isinstance(layer, nn.Linear) else (3, 5, 5)


@pytest.mark.filterwarnings("ignore:.*weight_norm.*deprecated:FutureWarning")
def test_other_axes_of_weight_norm_are_known_by_their_lengths() -> None:
    for axis in (0, 1, None):
        net = nn.Sequential(weight_norm(nn.Linear(6, 5), dim=axis))  # type: ignore[arg-type]
        fit(resolved(net.state_dict()), "0.weight", net[0].weight)


def test_a_mask_is_applied_and_its_density_reported() -> None:
    net = nn.Sequential(nn.Linear(10, 8), nn.Linear(8, 4))
    prune.l1_unstructured(net[0], "weight", amount=0.7)
    state = net.state_dict()
    fit(resolved(state), "0.weight", state["0.weight_orig"] * state["0.weight_mask"])
    layout = laid_out(state)
    assert [layer.name for layer in layout.layers] == ["0.weight", "1.weight"]
    assert layout.ways == ["product of weights and mask", "as it is"]
    assert skipped(layout)["0.weight_mask"] == "the mask of 0.weight, which keeps 0.3 of it"
    assert torch.equal(resolved({"0.weight": net[0].weight.detach()})["0.weight"], net[0].weight), "pruned for good"


def test_what_a_network_makes_of_an_original_is_not_guessed() -> None:
    net = nn.Sequential(parametrizations.orthogonal(nn.Linear(5, 5)), nn.Linear(5, 3))
    layout = laid_out(net.state_dict())
    assert [layer.name for layer in layout.layers] == ["1.weight"]
    assert "the file does not record" in skipped(layout)["0.parametrizations.weight.original"]


def test_fp8_with_a_factor_a_block_a_row_or_for_all() -> None:
    w = (40 * draw(5, 6)).to(torch.float8_e4m3fn)
    block = {"quantization_config": {"quant_method": "fp8", "weight_block_size": [2, 4]}}
    scale = draw(3, 2).abs()
    by_hand = torch.stack([torch.stack([w[i, j].float() * scale[i // 2, j // 4] for j in range(6)]) for i in range(5)])
    fit(resolved({"a.weight": w, "a.weight_scale_inv": scale}, block), "a.weight", by_hand)
    rows = draw(5, 1).abs()
    fit(resolved({"a.weight": w, "a.weight_scale": rows}), "a.weight", w.float() * rows)
    fit(resolved({"a.weight": w, "a.weight_scale": torch.tensor(0.5)}), "a.weight", w.float() / 2)
    whole = {"a.weight": w, "a.weight_scale": torch.tensor([0.5]), "a.input_scale": torch.tensor(3.0)}
    layout = laid_out(whole)
    assert [layer.name for layer in layout.layers] == ["a.weight"] and layout.ways == [
        "float8_e4m3fn times weight_scale"
    ]
    assert skipped(layout) == {"a.weight_scale": "scales of a quantised weight"}
    large = draw(130, 128).to(torch.float8_e4m3fn)
    usual = resolved({"a.weight": large, "a.weight_scale_inv": torch.tensor([[1.0], [2.0]])})
    fit(usual, "a.weight", large.float() * torch.cat([torch.ones(128, 1), 2 * torch.ones(2, 1)]))


def test_int8_of_bitsandbytes_and_of_others() -> None:
    w = torch.randint(-127, 128, (4, 6), generator=torch.Generator().manual_seed(0)).to(torch.int8)
    top = draw(4).abs()
    state = {"a.weight": w, "a.SCB": top, "a.weight_format": torch.tensor(0, dtype=torch.uint8)}
    fit(resolved(state), "a.weight", w.float() * top[:, None] / 127)
    fit(resolved({"a.weight": w, "a.weight_scale": top[:, None]}), "a.weight", w.float() * top[:, None])
    fit(resolved({"a.weight._data": w, "a.weight._scale": top[:, None]}), "a.weight", w.float() * top[:, None])


@pytest.mark.parametrize("nested", [False, True])
def test_four_bits_of_bitsandbytes(nested: bool) -> None:
    codes = torch.randint(0, 16, (8 * 12,), generator=torch.Generator().manual_seed(0))
    table, largest = draw(16), draw(6).abs()
    packed = ((codes[::2] << 4) | codes[1::2]).to(torch.uint8)[:, None]
    state: dict[str, Any] = {"blocksize": 16, "shape": [8, 12], "dtype": "bfloat16", "quant_type": "nf4"}
    tensors = {"a.weight": packed, "a.weight.quant_map": table, "a.weight.absmax": largest}
    if nested:
        inner, outer = torch.randint(0, 256, (6,), dtype=torch.uint8), draw(2).abs()
        lengths = draw(256)
        tensors |= {"a.weight.absmax": inner, "a.weight.nested_quant_map": lengths, "a.weight.nested_absmax": outer}
        state |= {"nested_blocksize": 3, "nested_offset": 0.25}
        largest = lengths[inner.long()] * outer[torch.arange(6) // 3] + 0.25
    text = torch.tensor(list(json.dumps(state).encode()), dtype=torch.uint8)
    by_hand = (table[codes] * largest[torch.arange(96) // 16]).view(8, 12)
    weights = resolved({**tensors, "a.weight.quant_state.bitsandbytes__nf4": text})
    fit(weights, "a.weight", by_hand)
    assert list(weights.shapes) == ["a.weight"]


def words(codes: Tensor, order: list[int]) -> Tensor:
    """Eight numbers of four bits a word along the last axis, number order[i] at place i."""
    eights = codes.unflatten(-1, (-1, 8))
    total = sum(eights[..., of].long() << (4 * place) for place, of in enumerate(order))
    return torch.as_tensor(total).to(torch.int32)


def test_gptq_and_awq() -> None:
    draw_codes = torch.Generator().manual_seed(0)
    codes = torch.randint(0, 16, (16, 8), generator=draw_codes)  # (in, out)
    zeros, scales = torch.randint(0, 15, (2, 8), generator=draw_codes), draw(2, 8)
    group = torch.arange(16) // 8
    config = {"quantization_config": {"quant_method": "gptq", "bits": 4, "group_size": 8}}
    in_order = list(range(8))
    state = {
        "a.qweight": words(codes.mT, in_order).mT.contiguous(),
        "a.qzeros": words(zeros, in_order),
        "a.scales": scales,
    }
    by_hand = ((codes - (zeros + 1)[group]) * scales[group]).mT
    fit(resolved(state, config), "a.weight", by_hand)
    shuffled = group[torch.randperm(16, generator=draw_codes)]
    by_group = ((codes - (zeros + 1)[shuffled]) * scales[shuffled]).mT
    fit(resolved({**state, "a.g_idx": shuffled.int()}, config), "a.weight", by_group)
    awq = [0, 2, 4, 6, 1, 3, 5, 7]
    state = {"a.qweight": words(codes, awq), "a.qzeros": words(zeros, awq), "a.scales": scales}
    config = {"quantization_config": {"quant_method": "awq", "bits": 4, "group_size": 8}}
    fit(resolved(state, config), "a.weight", ((codes - zeros[group]) * scales[group]).mT)


def test_mxfp4_is_as_transformers_unpacks_it() -> None:
    from transformers.integrations.mxfp4 import convert_moe_packed_tensors

    random = torch.Generator().manual_seed(0)
    blocks = torch.randint(0, 256, (2, 6, 3, 16), dtype=torch.uint8, generator=random)
    scales = torch.randint(120, 132, (2, 6, 3), dtype=torch.uint8, generator=random)
    theirs = convert_moe_packed_tensors(blocks, scales, dtype=torch.float32)
    weights = resolved({"e.gate_up_proj_blocks": blocks, "e.gate_up_proj_scales": scales})
    fit(weights, "e.gate_up_proj", theirs)


def test_packed_integers_of_compressed_tensors() -> None:
    codes = torch.randint(0, 16, (3, 16), generator=torch.Generator().manual_seed(0))
    scale = draw(3, 2)
    state = {
        "a.weight_packed": words(codes, list(range(8))),
        "a.weight_scale": scale,
        "a.weight_shape": torch.tensor([3, 16]),
    }
    fit(resolved(state), "a.weight", (codes - 8.0) * scale.repeat_interleave(8, 1))


@pytest.mark.parametrize(
    ("tensors", "named"),
    [
        ({"a.weight": torch.zeros(4, 4, dtype=torch.int8)}, "a.weight .* is stored as int8"),
        ({"a.qweight": torch.zeros(4, 4, dtype=torch.int32), "a.scales": draw(1, 4)}, "a.qweight .* as int32"),
        ({"a.weight": draw(4, 4).to(torch.float8_e5m2), "a.strange_scale": draw(4)}, "a.weight .* as float8_e5m2"),
        (
            {"a.weight": draw(4, 4).to(torch.float8_e4m3fn), "a.weight_scale": draw(3, 4)},
            "a.weight .* has scales a.weight_scale",
        ),
    ],
)
def test_a_format_that_is_not_known_is_refused_by_name(tensors: dict[str, Tensor], named: str) -> None:
    with pytest.raises(Quantised, match=named):
        laid_out({**tensors, "b.weight": draw(3, 3)})


def bits(*shape: int) -> Tensor:
    return torch.zeros(shape, dtype=torch.uint8)


NOT_READ = {
    "NVFP4 of ModelOpt": {
        "a.weight": bits(8, 16),
        "a.weight_scale": draw(8, 2).to(torch.float8_e4m3fn),
        "a.weight_scale_2": draw(1)[0],
    },
    "NVFP4 of compressed-tensors": {
        "a.weight_packed": bits(8, 16),
        "a.weight_scale": draw(8, 2).to(torch.float8_e4m3fn),
        "a.weight_global_scale": draw(1),
    },
    # As hqq 0.2.8 and optimum-quanto 0.2.7 name what they save.
    "HQQ": {"a.W_q": bits(64, 64), "a.scale": draw(128, 1), "a.zero": draw(128, 1), "a.packing": bits(7)},
    "HQQ, its bits in floating point": {"a.W_q": draw(64, 16), "a.scale": draw(128, 1), "a.zero": draw(128, 1)},
    "quanto with 4 bits": {
        "a.weight._data._data": bits(32, 128),
        "a.weight._scale": draw(64, 1),
        "a.weight._shift": draw(64, 1),
    },
}


@pytest.mark.parametrize("written", NOT_READ)
def test_formats_that_are_not_read_are_refused_by_their_names(written: str) -> None:
    name = written.split(maxsplit=1)[0].removesuffix(",")
    with pytest.raises(Quantised, match=rf"^a\..* is stored in the unsupported format {name}.* \(.*\): load the"):
        laid_out({"b.weight": draw(3, 3), **NOT_READ[written]})


def test_floats_of_eight_bits_without_any_scale_are_what_they_are() -> None:
    w = draw(4, 5).to(torch.float8_e4m3fn)
    assert torch.equal(resolved({"a.weight": w})["a.weight"], w.float())


WRAPPED = {
    "module.": "data parallelism",
    "_orig_mod.": "torch.compile",
    "module._orig_mod.": "both",
    "_fsdp_wrapped_module.": "FSDP",
    "model.": "Lightning",
    "model._orig_mod.": "Lightning and torch.compile",
}


@pytest.mark.parametrize("before", WRAPPED, ids=WRAPPED.values())
def test_wrappers_fall_away(before: str) -> None:
    names = {"0.weight": draw(3, 4), "block._fsdp_wrapped_module.1.weight": draw(5, 3), "0.bias": draw(3)}
    weights = resolved({before + name: w for name, w in names.items()} | {"criterion.scale": draw(2)})
    assert {"0.weight", "block.1.weight", "0.bias"} <= set(weights.shapes)
    assert torch.equal(weights["block.1.weight"], names["block._fsdp_wrapped_module.1.weight"])


def test_the_models_own_prefix_stays() -> None:
    at = "model.layers.0.self_attn."
    native = {f"{at}{one}_proj.weight": draw(4, 4) for one in "qkvo"}
    assert list(resolved(native).shapes) == list(native)
    assert list(resolved({f"model.{name}": w for name, w in native.items()}).shapes) == list(native)


def test_names_that_would_become_one_stay() -> None:
    twice = {"_orig_mod.0.weight": draw(3, 4), "0.weight": draw(3, 4)}
    assert list(resolved(twice).shapes) == list(twice)


def test_running_means_are_chosen_by_name_and_reported() -> None:
    raw, means = {"net.0.weight": draw(3, 4)}, {"model_ema.net.0.weight": draw(4, 3).mT.contiguous()}
    assert torch.equal(resolved({**raw, **means})["net.0.weight"], raw["net.0.weight"])
    chosen = resolved({**raw, **means}, weights="ema")
    assert torch.equal(chosen["net.0.weight"], means["model_ema.net.0.weight"])
    assert chosen.told == ("weights: model_ema; also there, by --weights: raw (1 tensors)",)
    assert torch.equal(resolved(means)["net.0.weight"], means["model_ema.net.0.weight"]), "there are no others"
    without_dots = {**raw, "model_ema.net0weight": means["model_ema.net.0.weight"]}
    assert list(resolved(without_dots, weights="ema").shapes) == ["net.0.weight"]
    with pytest.raises(ValueError, match=r"weights='ema': no such set of weights; there are: raw"):
        _ = resolved(raw, weights="ema").shapes


class Tied(InMemory):
    """Tensors of which the file says that two are one."""

    @property
    def shared(self) -> dict[str, str]:
        return {"lm_head.weight": "transformer.wte.weight"}


def test_tied_tensors_are_one_layer_that_does_both() -> None:
    block = {f"transformer.h.0.{name}.weight": draw(*shape) for name, shape in GPT.items()}
    embedding = {"transformer.wte.weight": draw(9, 4), "lm_head.weight": draw(9, 4)}
    weights = ResolvedWeights(Tied({**embedding, **block}), {})
    assert "lm_head.weight" not in weights.shapes
    layout = laid_out_of(weights)
    assert skipped(layout)["lm_head.weight"] == "the same tensor as transformer.wte.weight: one layer with two names"
    assert layout.pairs[-1].name == "transformer.h.0.mlp.c_proj.weight -> transformer.wte.weight"
    assert layout.pairs[-1].reader_vectors == "right"


GPT = {"attn.c_attn": (12, 4), "attn.c_proj": (4, 4), "mlp.c_fc": (16, 4), "mlp.c_proj": (4, 16)}


def laid_out_of(weights: ResolvedWeights) -> Any:
    from specdyn.tasks.foreign.network.layout import foreign_layout

    return foreign_layout(weights.tensors())
