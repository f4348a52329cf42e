"""The five networks of the paper at full size, with their pairs, as benchmarks and counts need them."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from specdyn.models.nets.bilstm import BiLstm, BiLstmNet, bilstm_pairs
from specdyn.models.nets.convnet import Vgg, VggNet
from specdyn.models.nets.matrices import LayerPair, consecutive_pairs, inventory, layers, shapes_of
from specdyn.models.nets.transformer import Transformer, TransformerNet, transformer_pairs
from specdyn.models.nets.unet import UNet, UNetNet, unet_pairs
from specdyn.tasks.spectra.network_layout import NetworkLayout

LANGUAGE = Transformer(width=768, heads=12, feedforward=768, depth=12, layernorm=True)


def _vgg_pairs(net: nn.Module) -> tuple[LayerPair, ...]:
    return consecutive_pairs(layers(net), shapes_of(net))


SMALL = Transformer(width=24, heads=12, feedforward=24, depth=12, layernorm=True)
MINIATURES: dict[str, tuple[Callable[[], nn.Module], Callable[[nn.Module], tuple[LayerPair, ...]]]] = {
    "modular addition": (
        lambda: TransformerNet(Transformer(width=16, feedforward=24), vocabulary=14, length=3),
        lambda net: transformer_pairs(Transformer(width=16, feedforward=24)),
    ),
    "VGG-16": (lambda: VggNet(Vgg(width=4), channels=3, classes=10), _vgg_pairs),
    "UNet": (lambda: UNetNet(UNet(width=32, embedding=64)), unet_pairs),
    "BiLSTM": (
        lambda: BiLstmNet(BiLstm(width=12), features=40, symbols=29),
        lambda net: bilstm_pairs(BiLstm(width=12)),
    ),
    "12-layer transformer": (
        lambda: TransformerNet(SMALL, vocabulary=50, length=16),
        lambda net: transformer_pairs(SMALL),
    ),
}
"""The same networks, narrow: as many layers and pairs."""

NETWORKS: dict[str, tuple[Callable[[], nn.Module], Callable[[nn.Module], tuple[LayerPair, ...]]]] = {
    "modular addition": (
        lambda: TransformerNet(Transformer(), vocabulary=114, length=3),
        lambda net: transformer_pairs(Transformer()),
    ),
    "VGG-16": (lambda: VggNet(Vgg(), channels=3, classes=10), _vgg_pairs),
    "UNet": (lambda: UNetNet(UNet()), unet_pairs),
    "BiLSTM": (lambda: BiLstmNet(BiLstm(), features=40, symbols=29), lambda net: bilstm_pairs(BiLstm())),
    "12-layer transformer": (
        lambda: TransformerNet(LANGUAGE, vocabulary=50_254, length=2048),
        lambda net: transformer_pairs(LANGUAGE),
    ),
}
"""Name -> what builds the network, and what gives its pairs."""


def build(name: str, miniature: bool = False) -> tuple[nn.Module, NetworkLayout]:
    """The network as it is initialised, and its network_layout."""
    make, pairs_of = (MINIATURES if miniature else NETWORKS)[name]
    torch.manual_seed(0)
    net = make()
    return net, NetworkLayout(entries=inventory(net), pairs=pairs_of(net))


def checkpoint(net: nn.Module, noise: float, seed: int) -> dict[str, Tensor]:
    """The parameters, moved by noise of a share of their own spread."""
    draw = torch.Generator().manual_seed(seed)
    return {
        name: p.detach() + noise * p.detach().std() * torch.randn(p.shape, generator=draw)
        for name, p in net.named_parameters()
        if p.ndim >= 2
    }
