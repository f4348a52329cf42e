"""What other programs' tensors are cut into, against slices made by hand, and which pairs are claimed of them."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from helpers.read import laid_out, matrices, names, of_shapes, skipped
from specdyn.tasks.spectra.analysis import Decomposed, PairView, get_analysis
from specdyn.tasks.spectra.decomposition import decompose
from specdyn.tasks.spectra.network_layout import NetworkLayout, run_layout


def draw(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape)))


def same(layout: NetworkLayout, weights: dict[str, Tensor], by_hand: dict[str, np.ndarray]) -> None:
    """The layers are those matrices, with the singular values that numpy finds."""
    cut = matrices(layout, weights)
    for name, expected in by_hand.items():
        np.testing.assert_array_equal(cut[name].numpy(), expected, err_msg=name)
        s = np.linalg.svd(expected.astype(np.float64), compute_uv=False)
        np.testing.assert_allclose(decompose(cut[name]).s.numpy(), s, atol=2e-6 * s[0], err_msg=name)


def test_heads_of_neox_alternate_query_key_and_value() -> None:
    at = "gpt_neox.layers.0.attention."
    weights = {f"{at}query_key_value.weight": draw(24, 8), f"{at}dense.weight": draw(8, 8)}
    weights |= {"gpt_neox.layers.0.mlp.dense_h_to_4h.weight": draw(12, 8)}
    fused = weights[f"{at}query_key_value.weight"].numpy().reshape(2, 3, 4, 8)
    layout = laid_out(weights, {"model_type": "gpt_neox", "num_attention_heads": 2})
    parts = {part: fused[:, i].reshape(8, 8) for i, part in enumerate(("query", "key", "value"))}
    same(layout, weights, {f"{at}query_key_value.weight[{part}]": of for part, of in parts.items()})
    keys_with_queries = next(pair for pair in layout.pairs if pair.heads)
    np.testing.assert_array_equal(keys_with_queries.writer.of(weights).numpy(), fused[:, 1])
    np.testing.assert_array_equal(keys_with_queries.reader.of(weights).numpy(), fused[:, 0])
    whole = laid_out(weights)
    assert whole.family == "gpt_neox" and "names such as gpt_neox.layers.0" in whole.because
    assert whole.layers[0].name == f"{at}query_key_value.weight", "heads are not known"
    assert not any("query_key_value" in pair.writer.name for pair in whole.pairs)
    assert names(laid_out(weights, heads=2).pairs) == names(layout.pairs), "heads by hand do as well"


def test_conv1d_of_gpt2_is_turned_and_nanogpt_is_not() -> None:
    weights = {
        "h.0.attn.c_attn.weight": draw(8, 24),
        "h.0.attn.c_proj.weight": draw(8, 8),
        "h.0.mlp.c_fc.weight": draw(8, 32),
    }
    layout = laid_out(weights)
    assert layout.family == "gpt2"
    fused = weights["h.0.attn.c_attn.weight"].numpy()
    by_hand = {
        f"h.0.attn.c_attn.weight[{part}]": fused[:, 8 * i : 8 * i + 8].T
        for i, part in enumerate(("query", "key", "value"))
    }
    by_hand |= {name: weights[name].numpy().T for name in ("h.0.attn.c_proj.weight", "h.0.mlp.c_fc.weight")}
    same(layout, weights, by_hand)
    assert names(layout.pairs)[0] == "h.0.attn.c_attn.weight[value] -> h.0.attn.c_proj.weight"
    plain = {name: w.mT.contiguous() for name, w in weights.items()}
    as_linear = laid_out(plain)
    assert as_linear.family == "nanogpt"
    same(as_linear, plain, by_hand)


def test_a_matrix_an_expert_with_gate_and_up_inside() -> None:
    at = "model.layers.0."
    attention = {f"{at}self_attn.{one}_proj.weight": (8, 8) for one in "qkvo"}
    experts = f"{at}mlp.experts."
    stacked = {**attention, f"{experts}gate_up_proj": (3, 12, 8), f"{experts}down_proj": (3, 8, 6)}
    weights = {name: draw(*shape) for name, shape in stacked.items()}
    layout = laid_out(weights, {"model_type": "mixtral", "hidden_size": 8})
    both, down = (weights[experts + name].numpy() for name in ("gate_up_proj", "down_proj"))
    same(
        layout,
        weights,
        {
            f"{experts}gate_up_proj[expert 2 gate]": both[2, :6],
            f"{experts}gate_up_proj[expert 2 up]": both[2, 6:],
            f"{experts}down_proj[expert 2]": down[2],
        },
    )
    inside = [name for name in names(layout.pairs) if "expert" in name]
    assert len(inside) == 6 and all(name.count("expert 1") in (0, 2) for name in inside)
    turned = {**weights, f"{experts}gate_up_proj": draw(3, 8, 12), f"{experts}down_proj": draw(3, 6, 8)}
    turned |= {f"{experts}gate_up_proj_bias": draw(3, 12), f"{at}mlp.router.weight": draw(3, 8)}
    gpt_oss = laid_out(turned)
    assert gpt_oss.family == "gpt_oss"
    both = turned[f"{experts}gate_up_proj"].numpy()
    same(
        gpt_oss,
        turned,
        {f"{experts}gate_up_proj[expert 0 {part}]": both[0, :, i::2].T for i, part in enumerate(("gate", "up"))}
        | {f"{experts}down_proj[expert 1]": turned[f"{experts}down_proj"].numpy()[1].T},
    )
    assert skipped(gpt_oss)[f"{experts}gate_up_proj_bias"] == "biases"


def test_heads_of_transformer_lens_are_matrices_beside_the_whole() -> None:
    at = "blocks.0.attn."
    weights = {f"{at}W_{one}": draw(2, 8, 4) for one in "QKV"} | {f"{at}W_O": draw(2, 4, 8), "embed.W_E": draw(11, 8)}
    weights |= {"pos_embed.W_pos": draw(3, 8), "unembed.W_U": draw(8, 10), f"{at}IGNORE": torch.tensor(-torch.inf)}
    weights |= {f"{at}mask": torch.full((3, 3), -torch.inf).triu(1), "blocks.0.mlp.W_in": draw(8, 16)}
    layout = laid_out(weights)
    assert layout.family == "transformer_lens"
    q, o = weights[f"{at}W_Q"].numpy(), weights[f"{at}W_O"].numpy()
    same(
        layout,
        weights,
        {
            f"{at}W_Q": q.transpose(0, 2, 1).reshape(8, 8),
            f"{at}W_Q[head 2]": q[1].T,
            f"{at}W_O": o.reshape(8, 8).T,
            f"{at}W_O[head 1]": o[0].T,
            "unembed.W_U": weights["unembed.W_U"].numpy().T,
            "blocks.0.mlp.W_in": weights["blocks.0.mlp.W_in"].numpy().T,
        },
    )
    by_head = [pair for pair in layout.pairs if pair.heads]
    assert [pair.heads for pair in by_head] == [2, 2]
    np.testing.assert_array_equal(by_head[1].reader.of(weights).numpy(), o.transpose(0, 2, 1))
    assert skipped(layout).keys() == {"pos_embed.W_pos", f"{at}mask"}
    theirs = {f"{at}W_{one}": draw(2, 4, 8) for one in "QKV"} | {f"{at}W_O": draw(8, 8), "embed.W_E": draw(8, 11)}
    grokking = laid_out({**theirs, "pos_embed.W_pos": draw(3, 8)})
    assert grokking.family == "grokking"
    same(
        grokking,
        theirs,
        {f"{at}W_Q[head 1]": theirs[f"{at}W_Q"].numpy()[0], "embed.W_E": theirs["embed.W_E"].numpy().T},
    )


@pytest.mark.parametrize(("kind", "gates"), [(nn.LSTM, 4), (nn.GRU, 3)])
def test_gates_are_layers_and_each_direction_has_its_pairs(kind: type[nn.RNNBase], gates: int) -> None:
    torch.manual_seed(0)
    weights = {f"rnn.{name}": w for name, w in kind(5, 4, 2, bidirectional=True).state_dict().items()}
    layout = laid_out(weights)
    assert layout.family == "unknown"
    w = weights["rnn.weight_hh_l1"].numpy()
    parts = [layer.name for layer in layout.layers if layer.parameter == "rnn.weight_hh_l1"]
    assert len(parts) == gates
    same(layout, weights, {name: w[4 * i : 4 * i + 4] for i, name in enumerate(parts)})
    expected = set()
    for end, half in (("", "forward"), ("_reverse", "reverse")):
        expected |= {f"rnn.weight_ih_l{i}{end} -> rnn.weight_hh_l{i}{end}" for i in (0, 1)}
        expected |= {f"rnn.weight_{one}_l0{end} -> rnn.weight_ih_l1{end}[{half}]" for one in ("ih", "hh")}
    assert set(names(layout.pairs)) == expected
    reverse = next(pair for pair in layout.pairs if "reverse]" in pair.reader.name)
    np.testing.assert_array_equal(
        reverse.reader.of(weights).numpy(), weights["rnn.weight_ih_l1_reverse"].numpy()[:, 4:]
    )
    assert {pair.gates for pair in layout.pairs} == {gates}


def test_groups_of_convolutions_are_cut_where_what_they_read_is_known() -> None:
    layers = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 3, groups=8), nn.Conv2d(8, 16, 1), nn.Conv2d(16, 16, 3, groups=4)
    weights = nn.Sequential(*layers, nn.Conv3d(16, 2, 3)).state_dict()
    layout = laid_out(weights)
    assert skipped(layout) == {"1.weight": "a kernel a channel (depthwise): vectors, which mix no channels"}
    w = weights["3.weight"].numpy()
    same(layout, weights, {f"3.weight[group {i + 1}]": w[4 * i : 4 * i + 4].reshape(4, 36) for i in range(4)})
    assert layout.shapes[-1] == (2, 16 * 27) and layout.pairs == ()


def test_transposed_convolutions_are_known_by_bias_norm_chain_or_name() -> None:
    unet = {
        "up.up.weight": (16, 8, 2, 2),
        "up.up.bias": (8,),
        "out.weight": (2, 8, 1, 1),
        "deconv.weight": (4, 4, 3, 3),
    }
    layout = of_shapes(unet)
    assert layout.shapes == ((8, 64), (2, 8), (4, 36))
    assert "its bias has 8 entries" in layout.ways[0] and "by its name" in layout.ways[2]
    assert layout.ways[1].endswith("unknown whether it is transposed")
    dcgan = nn.Sequential(
        nn.ConvTranspose2d(10, 8, 4, bias=False),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.ConvTranspose2d(8, 6, 4, bias=False),
        nn.Tanh(),
        nn.ConvTranspose2d(6, 3, 4, bias=False),
    )
    generator = of_shapes({f"main.{name}": tuple(w.shape) for name, w in dcgan.state_dict().items()})
    assert generator.shapes == ((8, 160), (6, 128), (3, 96))


def test_what_is_no_matrix_is_no_layer() -> None:
    layout = of_shapes(
        {
            "cls_token": (1, 1, 64),
            "pos_embed": (1, 50, 64),
            "scale.weight": (1, 1),
            "row.weight": (1, 7),
            "column": (7, 1),
            "table": (1, 5, 6),
            "norm1.weight": (3, 4),
            "fc.weight": (8, 6),
        }
    )
    assert [layer.name for layer in layout.layers] == ["table", "fc.weight"]
    assert layout.shapes == ((5, 6), (8, 6)) and layout.ways[0] == "without 1 leading axes of length 1"
    assert set(skipped(layout)) == {"cls_token", "pos_embed", "scale.weight", "row.weight", "column", "norm1.weight"}


def test_no_pair_is_claimed_of_an_unknown_network() -> None:
    chain = {f"blocks.{i}.weight": (6, 6) for i in range(4)}
    layout = of_shapes(chain, {"model_type": "made_up", "num_attention_heads": 2})
    assert (layout.family, layout.pairs) == ("unknown", ())
    assert "model_type made_up" in layout.because and len(layout.layers) == 4
    stored = run_layout(layout, (0,), ["spectrum"], {}, {})
    assert (stored.attributes["family"], stored.attributes["family_because"]) == ("unknown", layout.because)
    llama = of_shapes(chain, {"model_type": "llama"})
    assert llama.family == "unknown" and "no tensor is called layers.#.self_attn.o_proj.weight" in llama.because


OF_OTHERS = {
    "separate": {f"enc.{i}.att.{one}.weight": (8, 8) for i in range(2) for one in ("query", "key", "value")},
    "fused": {"enc.att.qkv.weight": (24, 8), "enc.att.proj.weight": (8, 8)},
    "turned": {"enc.att.c_attn.weight": (8, 24)},
    "torch": {"enc.att.in_proj_weight": (24, 8), "enc.att.out_proj.weight": (8, 8)},
    "diffusers": {f"mid.attn1.{one}.weight": (8, 8) for one in ("to_q", "to_k", "to_v", "to_out.0")},
    "meta": {f"layers.0.attention.{one}.weight": (8, 8) for one in ("wq", "wk", "wv", "wo")},
}


@pytest.mark.parametrize("shapes", OF_OTHERS.values(), ids=OF_OTHERS)
def test_heads_apply_to_projections_of_any_usual_name(shapes: dict[str, tuple[int, ...]]) -> None:
    layout = of_shapes(shapes, heads=4)
    assert layout.attention and {pair.heads for pair in layout.attention} == {4}
    assert len(layout.attention) >= len({name.rpartition(".")[0] for name in shapes} & {"enc.0.att", "enc.1.att"})
    with pytest.raises(ValueError, match=r"heads=3 .*a divisor of 8, the width of"):
        of_shapes(shapes, heads=3)


@pytest.mark.parametrize(
    ("shapes", "config", "good"),
    [
        ({"gpt_neox.layers.0.attention.query_key_value.weight": (48, 16)}, {"model_type": "gpt_neox"}, 4),
        ({"h.0.self_attn.qkv_proj.weight": (48, 24), "h.0.self_attn.o_proj.weight": (16, 24)}, {}, 4),
    ],
)
@pytest.mark.parametrize("heads", [3, 5, 7])
def test_heads_that_do_not_cut_a_fused_projection_are_refused(
    shapes: dict[str, tuple[int, ...]], config: dict[str, Any], good: int, heads: int
) -> None:
    if config:
        at = "gpt_neox.layers.0."
        shapes = {**shapes, f"{at}attention.dense.weight": (16, 16), f"{at}mlp.dense_h_to_4h.weight": (20, 16)}
    said = rf"heads={heads} .*a number that cuts the 48 rows of .* into query, key, value of each head"
    with pytest.raises(ValueError, match=said):
        of_shapes(shapes, config, heads=heads)
    assert {pair.heads for pair in of_shapes(shapes, config, heads=good).attention} == {good}


def test_heads_are_refused_where_there_is_no_attention() -> None:
    with pytest.raises(ValueError, match="no projections of queries and keys are known among the 1 layers"):
        of_shapes({"fc.weight": (8, 8)}, heads=4)
    with pytest.raises(ValueError, match="heads"):
        of_shapes({"fc.weight": (8, 8)}, heads=-1)


def test_keys_and_values_that_heads_share_are_compared_with_each_of_them() -> None:
    at = "model.layers.0."
    shapes = {f"{at}self_attn.{one}_proj.weight": (rows, 8) for one, rows in (("q", 8), ("k", 4), ("v", 4), ("o", 8))}
    shapes |= {f"{at}mlp.{one}_proj.weight": (6, 8) for one in ("gate", "up")} | {f"{at}mlp.down_proj.weight": (8, 6)}
    layout = of_shapes(shapes, {"model_type": "llama", "num_attention_heads": 4, "num_key_value_heads": 2})
    assert [(pair.writer.heads, pair.reader.heads) for pair in layout.attention] == [(2, 4), (2, 4)]
    assert f"{at}mlp.down_proj.weight -> {at}mlp.gate_proj.weight" not in names(layout.pairs), "names are no data flow"
    alone = of_shapes(shapes)
    assert alone.family == "llama" and not alone.attention


def test_vgg_reads_the_last_channels_position_by_position() -> None:
    chain = {"features.0.weight": (4, 3, 3, 3), "features.3.weight": (6, 4, 3, 3)}
    layout = of_shapes({**chain, "classifier.0.weight": (10, 24), "classifier.3.weight": (5, 10)})
    assert layout.family == "vgg"
    assert {pair.name: pair.positions for pair in layout.pairs} == {
        "features.0.weight -> features.3.weight": 9,
        "features.3.weight -> classifier.0.weight": 4,
        "classifier.0.weight -> classifier.3.weight": 1,
    }


def test_blocks_of_a_resnet_feed_the_next_and_its_shortcut() -> None:
    shapes = {"conv1.weight": (4, 3, 7, 7), "fc.weight": (10, 8)}
    for stage, width, before in ((1, 4, 4), (2, 8, 4)):
        for block in range(2):
            shapes[f"layer{stage}.{block}.conv1.weight"] = (width, before if block == 0 else width, 3, 3)
            shapes[f"layer{stage}.{block}.conv2.weight"] = (width, width, 3, 3)
    layout = of_shapes({**shapes, "layer2.0.downsample.0.weight": (8, 4, 1, 1)})
    assert layout.family == "resnet"
    pairs = [name.replace(".weight", "") for name in names(layout.pairs)]
    assert "layer1.1.conv2 -> layer2.0.downsample.0" in pairs and "layer2.0.downsample.0 -> layer2.1.conv1" in pairs
    assert "conv1 -> layer2.0.downsample.0" not in pairs and "layer2.0.downsample.0 -> fc" not in pairs
    assert pairs[0] == "conv1 -> layer1.0.conv1" and pairs[-1] == "layer2.1.conv2 -> fc" and len(pairs) == 11


def test_values_feed_the_output_of_a_torch_module_in_any_network() -> None:
    layout = of_shapes(OF_OTHERS["torch"])
    assert layout.because.endswith("by themselves are known: nn.MultiheadAttention")
    assert (layout.family, names(layout.pairs)) == (
        "unknown",
        ["enc.att.in_proj_weight[value] -> enc.att.out_proj.weight"],
    )


def test_alignment_of_shared_heads_is_that_of_each_query_with_its_own_key() -> None:
    at = "model.layers.0."
    weights = {f"{at}self_attn.{one}_proj.weight": draw(rows, 16) for one, rows in (("q", 16), ("k", 8), ("v", 8))}
    weights |= {f"{at}self_attn.o_proj.weight": draw(16, 16), f"{at}mlp.up_proj.weight": draw(6, 16)}
    weights |= {f"{at}mlp.gate_proj.weight": draw(6, 16), f"{at}mlp.down_proj.weight": draw(16, 6)}
    layout = laid_out(weights, {"model_type": "llama", "num_attention_heads": 4})
    keys, values = layout.attention
    factors = {one.name: decompose(one.of(weights)) for one in layout.matrices}
    now = Decomposed(step=0, weights=weights, factors=factors)
    q, k, v = (weights[f"{at}self_attn.{one}_proj.weight"].numpy() for one in "qkv")
    o = weights[f"{at}self_attn.o_proj.weight"].numpy()
    for pair, of_head in (
        (keys, lambda h: (left(q[4 * h : 4 * h + 4]), left(k[4 * (h // 2) : 4 * (h // 2) + 4]))),
        (values, lambda h: (left(o[:, 4 * h : 4 * h + 4].T), left(v[4 * (h // 2) : 4 * (h // 2) + 4]))),
    ):
        found = get_analysis("alignment").compute(PairView(pair=pair, now=now))["head_alignment"]
        by_hand = [np.abs(np.diag(reader.T @ writer)) for reader, writer in map(of_head, range(4))]
        np.testing.assert_allclose(found, by_hand, atol=1e-5)


def left(w: np.ndarray) -> np.ndarray:
    """The left singular vectors, as columns."""
    return np.asarray(np.linalg.svd(w.astype(np.float64), full_matrices=False)[0])
