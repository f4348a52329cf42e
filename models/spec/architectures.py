"""Architectures: the possible values of a spec's `net`. The networks themselves are in models/nets."""

from dataclasses import dataclass

from specdyn.models.spec.checks import require, require_counts, require_declared_types


@dataclass(frozen=True, slots=True, kw_only=True)
class Mlp:
    """Architecture of a plain MLP; input and output sizes come from the data."""

    width: int = 100
    """Units of each hidden layer."""
    hidden_layers: int = 4
    """Layers between input and output."""

    def __post_init__(self) -> None:
        require_declared_types(self)
        require_counts(self, "width", "hidden_layers")


@dataclass(frozen=True, slots=True, kw_only=True)
class Transformer:
    """Architecture of the encoder-only transformer; the vocabulary comes from the data."""

    width: int = 128
    """Width of embeddings and residual stream."""
    heads: int = 4
    """Attention heads of each block."""
    feedforward: int = 512
    """Units of the hidden layer of each block's MLP."""
    depth: int = 1
    """Number of blocks."""
    layernorm: bool = False
    """LayerNorm before each block; the paper's sweeps at prime 113 remove it."""

    def __post_init__(self) -> None:
        require_declared_types(self)
        require_counts(self, "width", "heads", "feedforward", "depth")
        require(self.width % self.heads == 0, "heads", self.heads, f"a divisor of width={self.width}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Vgg:
    """VGG-16 with BatchNorm; the number of classes and of input channels comes from the data."""

    width: int = 64
    """Channels of the first convolutions; the last have eight times as many."""

    def __post_init__(self) -> None:
        require_declared_types(self)
        require_counts(self, "width")


@dataclass(frozen=True, slots=True, kw_only=True)
class ResNet:
    """ResNet of 6 n + 2 layers with BatchNorm and projection shortcuts; 20 layers for 3 blocks per stage."""

    width: int = 16
    """Channels of the first stage; each later one has twice as many."""
    blocks: int = 3
    """Residual blocks of each of the three stages."""

    def __post_init__(self) -> None:
        require_declared_types(self)
        require_counts(self, "width", "blocks")


@dataclass(frozen=True, slots=True, kw_only=True)
class LeNet:
    """Two convolutions of 5 x 5 and three linear layers."""

    width: int = 6
    """Channels of the first convolution; the second has 16 for every 6."""

    def __post_init__(self) -> None:
        require_declared_types(self)
        require_counts(self, "width")


@dataclass(frozen=True, slots=True, kw_only=True)
class UNet:
    """Architecture of the UNet and of its diffusion process, for images of 28 x 28."""

    width: int = 64
    """Channels of the first convolution; the deepest has eight times as many."""
    embedding: int = 512
    """Width of the embedding of the diffusion step."""
    diffusion_steps: int = 1000
    """Diffusion steps; each example is trained at a random one."""

    def __post_init__(self) -> None:
        require_declared_types(self)
        require_counts(self, "width", "embedding", "diffusion_steps")
        require(self.width % 32 == 0, "width", self.width, "a multiple of 32, which GroupNorm divides by")
        require(self.embedding % 2 == 0, "embedding", self.embedding, "an even number: half sine, half cosine")


@dataclass(frozen=True, slots=True, kw_only=True)
class BiLstm:
    """Architecture of the LSTM; the number of features and of symbols comes from the data."""

    width: int = 256
    """Hidden units of each direction."""
    depth: int = 4
    """Number of layers."""

    def __post_init__(self) -> None:
        require_declared_types(self)
        require_counts(self, "width", "depth")
