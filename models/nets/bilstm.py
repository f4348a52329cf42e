"""Bidirectional LSTM with a linear head for connectionist temporal classification (METHOD 1.4).

Shapes: B batch, T frames, F features, D hidden size, K symbols.
"""

from torch import Tensor, nn
from torch.nn import functional as F

from specdyn.models.nets.matrices import LayerPair, Matrix
from specdyn.models.spec.architectures import BiLstm

GATES = 4
SHOWN = 2
"""Gate g of i, f, g, o."""


class BiLstmNet(nn.Module):
    """Features (B, T, F) to log-probabilities of symbols (B, T, K).

    Padding is not masked: the reverse direction sees it first.
    """

    def __init__(self, config: BiLstm, features: int, symbols: int) -> None:
        super().__init__()
        self.lstm = nn.LSTM(features, config.width, config.depth, batch_first=True, bidirectional=True)
        self.linear = nn.Linear(2 * config.width, symbols)

    def forward(self, x_BTF: Tensor) -> Tensor:
        hidden_BTE, _ = self.lstm(x_BTF)
        return F.log_softmax(self.linear(hidden_BTE), dim=-1)


def bilstm_pairs(config: BiLstm) -> tuple[LayerPair, ...]:
    """The published pairs of each direction, then the reverse direction with its own half of the linear layer.

    A layer that reads both directions is cut to the half that the writing direction feeds. The published code uses the
    forward half of the linear layer for both directions; those pairs are kept, followed by the correct ones.
    """
    pairs: list[LayerPair] = []
    for suffix in ("", "_reverse"):
        half = "reverse" if suffix else "forward"
        for depth in range(config.depth):
            ih, hh = _whole("ih", depth, suffix), _whole("hh", depth, suffix)
            if depth == config.depth - 1:
                forward = _half(config, "linear.weight", "forward")
                pairs += [_pair(ih, forward), _pair(hh, forward)]
                break
            above = _half(config, _whole("ih", depth + 1, suffix).parameter, half)
            pairs += [_pair(ih, hh), _pair(ih, above), _pair(hh, above)]
    own = _half(config, "linear.weight", "reverse")
    last = config.depth - 1
    return (*pairs, *(_pair(_whole(kind, last, "_reverse"), own) for kind in ("ih", "hh")))


def _whole(kind: str, depth: int, suffix: str) -> Matrix:
    return Matrix(parameter=f"lstm.weight_{kind}_l{depth}{suffix}")


def _half(config: BiLstm, parameter: str, half: str) -> Matrix:
    start = config.width if half == "reverse" else 0
    return Matrix(parameter=parameter, part=half, columns=(start, start + config.width))


def _pair(writer: Matrix, reader: Matrix) -> LayerPair:
    return LayerPair(writer=writer, reader=reader, gates=GATES, shown=SHOWN)
