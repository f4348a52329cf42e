"""The pairs of known families follow the data: checked against the forward pass of small networks of `transformers`."""

import pytest
import torch

from helpers.hugging_face import CONFIGS, Network, received, width
from helpers.read import laid_out
from specdyn.models.nets.matrices import LayerPair

FAMILIES = {
    "GPT2": "gpt2",
    "GPTNeoX": "gpt_neox",
    "Mixtral": "experts",
    "Qwen3Moe": "experts",
    "GptOss": "gpt_oss",
    "Bert": "bert",
    "Roberta": "bert",
    "T5": "t5",
    "ViT": "vit",
    "DeiT": "vit",
    "ResNet": "resnet",
    "Mamba": "mamba",
}


@pytest.mark.parametrize("kind", CONFIGS)
def test_a_reader_receives_what_its_writer_writes(kind: str) -> None:
    net = Network(kind)
    for name in [name for name in net.weights if name.endswith("mixer.x_proj.weight")]:
        net.weights[name] *= 0.1  # through which every channel of Mamba chooses what becomes of all others
    layout = laid_out(net.weights, net.config)
    assert layout.family == FAMILIES.get(kind.partition("For")[0].partition("LM")[0], "llama")
    assert layout.because == f"config.json says model_type {net.config['model_type']}"
    whole = [pair for pair in layout.pairs if not pair.heads]
    assert whole
    for number, pair in enumerate(whole):
        alive = 0
        for written in range(number % 3, width(net, pair), max(1, width(net, pair) // 4)):
            moves = received(net, pair, written)
            if not moves.any():
                continue  # a unit that is switched off by every token
            alive += 1
            # Normalisation moves the other coordinates as well, but less.
            others = torch.cat([moves[:written], moves[written + 1 :]])
            assert float(moves[written]) > float(others.max()), (pair.name, written)
            if alive == 2:
                break
        assert alive, pair.name


def without_head(net: Network, pair: LayerPair, head: int, writer: bool) -> dict[str, torch.Tensor]:
    """The weights with one head of a pair's writer or reader at zero."""
    matrix = pair.writer if writer else pair.reader
    w = net.weights[matrix.parameter]
    entries = matrix.of({matrix.parameter: torch.arange(w.numel()).view(w.shape)})[head].flatten()
    zeroed = w.flatten().clone()
    zeroed[entries] = 0
    return {**net.weights, matrix.parameter: zeroed.view(w.shape)}


def moved(net: Network, weights: dict[str, torch.Tensor], pair: LayerPair, head: int) -> float:
    """How far the output moves where one head of a pair's reader is doubled."""
    matrix = pair.reader
    w = weights[matrix.parameter]
    entries = matrix.of({matrix.parameter: torch.arange(w.numel()).view(w.shape)})[head].flatten()
    doubled = w.flatten().clone()
    doubled[entries] *= 2
    return float((net.output({**weights, matrix.parameter: doubled.view(w.shape)}) - net.output(weights)).norm())


NO_HEADS = ("ResNetForImageClassification", "MambaForCausalLM")
NORMED_TOGETHER = ("Olmo2ForCausalLM",)
"""One normalisation of all queries, through which each head moves the others."""


@pytest.mark.parametrize("kind", [kind for kind in CONFIGS if kind not in (*NO_HEADS, *NORMED_TOGETHER)])
def test_each_head_reads_its_own_keys_and_values(kind: str) -> None:
    """Where the keys, or values, of a head are zero the queries, or the output's columns, of its readers do nothing."""
    net = Network(kind)
    for name in [name for name in net.weights if name.endswith("bias")]:
        net.weights[name] = torch.zeros_like(net.weights[name])  # a bias is written whatever the weights are
    by_head = [pair for pair in laid_out(net.weights, net.config).pairs if pair.heads]
    assert by_head and {pair.heads for pair in by_head} == {4}
    for pair in by_head[-2:]:
        sharing = pair.heads // pair.writer.heads
        usual = moved(net, net.weights, pair, 1)
        for written in range(pair.writer.heads):
            without = without_head(net, pair, written, writer=True)
            for read in range(pair.heads):
                effect = moved(net, without, pair, read)
                assert (effect < 1e-9 * usual) == (read // sharing == written), (pair.name, written, read)


@pytest.mark.parametrize("parallel", [True, False])
def test_blocks_of_neox_are_parallel_unless_the_config_says_no(parallel: bool) -> None:
    net = Network("GPTNeoXForCausalLM", use_parallel_residual=parallel)
    names = [
        pair.name.replace("gpt_neox.layers.", "").replace(".weight", "")
        for pair in laid_out(net.weights, net.config).pairs
    ]
    assert ("0.attention.dense -> 0.mlp.dense_h_to_4h" in names) is not parallel
    assert ("0.attention.dense -> 1.mlp.dense_h_to_4h" in names) is parallel
