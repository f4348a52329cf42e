"""Grokking on modular addition: a one-layer transformer, or an MLP, learns (i + j) mod p (METHOD 1.1)."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING

from specdyn.models.experiments.base import Experiment, Metric, Preset
from specdyn.models.spec.architectures import Mlp, Transformer
from specdyn.models.spec.data import ModularAddition
from specdyn.models.spec.parts import Decay, Optimizer, Record, Schedule
from specdyn.models.spec.run_spec import RunSpec

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor, nn

    from specdyn.models.datasets.decoders.examples import Examples
    from specdyn.models.nets.matrices import LayerPair
    from specdyn.models.spec.data import Read, Shapes

NAME = "modular_addition"


def build_net(spec: RunSpec) -> nn.Module:
    """The transformer over p + 1 tokens, or the MLP over two one-hot digits."""
    from specdyn.models.nets.mlp import MlpNet
    from specdyn.models.nets.transformer import TransformerNet

    prime = spec.data.prime
    if isinstance(spec.net, Mlp):
        return MlpNet(spec.net, inputs=2 * prime, outputs=prime)
    return TransformerNet(spec.net, vocabulary=prime + 1, length=3, last_token=prime)


def examples(spec: RunSpec, arrays: Mapping[str, np.ndarray]) -> dict[str, Examples]:
    """Inputs: tokens (n, 3) for the transformer, one-hot pairs (n, 2p) for the MLP; targets (n,)."""

    from torch.nn import functional as F

    from specdyn.models.datasets.decoders.examples import Examples
    from specdyn.models.datasets.decoders.modular_addition import rows

    def of(table: Tensor) -> Examples:
        if isinstance(spec.net, Mlp):
            digits = F.one_hot(table[:, :2], spec.data.prime).flatten(1).float()
            return Examples(digits, table[:, 3].contiguous())
        return Examples(table[:, :3].contiguous(), table[:, 3].contiguous())

    train, val = rows(spec.data, spec.seed)
    return {"train": of(train), "val": of(val)}


def train_examples(spec: RunSpec, _shapes: Shapes, _read: Read) -> int:
    """The number of training pairs."""
    from specdyn.models.datasets.decoders.modular_addition import split

    return len(split(spec.data, spec.seed)[0])


def loss(spec: RunSpec, outputs: Tensor, batch: Examples) -> Tensor:
    """Cross-entropy for the transformer; mean squared error to the one-hot target for the MLP."""
    from torch.nn import functional as F

    targets = batch.targets
    if isinstance(spec.net, Mlp):
        return F.mse_loss(outputs, F.one_hot(targets, outputs.shape[1]).to(outputs.dtype))
    return F.cross_entropy(outputs, targets)


def metrics(spec: RunSpec) -> dict[str, Metric]:
    """Loss, and the fraction of wrong answers."""
    return {
        "loss": Metric(of=lambda outputs, batch: loss(spec, outputs, batch), long_name="loss", units="nat"),
        "err": Metric(
            of=lambda outputs, batch: (outputs.argmax(-1) != batch.targets).float().mean(), long_name="error rate"
        ),
    }


def layer_pairs(spec: RunSpec, net: nn.Module) -> tuple[LayerPair, ...]:
    """METHOD 4.4: six pairs of the transformer, consecutive layers of the MLP."""
    from specdyn.models.nets.matrices import consecutive_pairs, layers, shapes_of
    from specdyn.models.nets.transformer import transformer_pairs

    if isinstance(spec.net, Mlp):
        return consecutive_pairs(layers(net), shapes_of(net))
    return transformer_pairs(spec.net)


PAPER = RunSpec(
    experiment=NAME,
    net=Transformer(),
    data=ModularAddition(),
    steps=40_000,
    optimizer=Optimizer(learning_rate=1e-3, beta2=0.98),
    decay=Decay(weight_decay=1.0),
    record=Record(checkpoint_every=100),
)
DEMO = dataclasses.replace(
    PAPER,
    data=ModularAddition(prime=59, train_fraction=0.75, mirrored_together=True),
    steps=2_500,
    batch_size=512,
    optimizer=Optimizer(learning_rate=2e-3, beta2=0.98),
    record=Record(checkpoint_every=50),
)
PRESETS = {
    "paper": Preset(
        spec=PAPER,
        about="prime 113, 30 % of the table, full batch, no LayerNorm, 40,000 steps",
        weight_decays=(0.0, 0.1, 1.0),
        seeds=(0, 1, 2),
    ),
    "data-rich": Preset(
        spec=dataclasses.replace(PAPER, data=ModularAddition(train_fraction=0.9), decay=Decay()),
        about="the paper's net on 90 % of the table: generalises without weight decay",
        weight_decays=(0.0,),
        seeds=(0, 1, 2),
    ),
    "slingshot": Preset(
        spec=dataclasses.replace(
            PAPER,
            net=Transformer(layernorm=True),
            data=ModularAddition(prime=97, train_fraction=0.7),
            steps=100_000,
            schedule=Schedule(name="warmup", warmup=10),
            decay=Decay(),
            record=Record(eval_batch_size=512),
        ),
        about="prime 97, 70 % of the table, LayerNorm, no weight decay, 100,000 steps",
        weight_decays=(0.0,),
        seeds=(0, 1, 2),
    ),
    "mlp": Preset(
        spec=dataclasses.replace(PAPER, net=Mlp()),
        about="five linear layers on one-hot digits with squared error; the paper gives no settings",
        weight_decays=(0.0, 0.1, 1.0),
        seeds=(0, 1, 2),
    ),
    "demo": Preset(
        spec=DEMO,
        about="prime 59, batches of 512, 2,500 steps: groks on a laptop in half a minute",
        weight_decays=(0.0, 0.3, 1.0, 2.0),
    ),
    "smoke": Preset(
        spec=dataclasses.replace(
            DEMO,
            net=Transformer(width=32, feedforward=64),
            data=ModularAddition(prime=13, train_fraction=0.75, mirrored_together=True),
            steps=60,
            batch_size=32,
            record=Record(checkpoint_every=10),
        ),
        about="prime 13, 60 steps: proves the installation in seconds, shows no science",
        weight_decays=(0.0, 1.0),
    ),
}

EXPERIMENT = Experiment(
    name=NAME,
    title="Grokking on modular addition",
    kinds=(Transformer, Mlp, ModularAddition),
    presets=PRESETS,
    build_net=build_net,
    examples=examples,
    train_examples=train_examples,
    loss=loss,
    metrics=metrics,
    layer_pairs=layer_pairs,
    usual="demo",
    deviations=(
        "demo: prime 59 instead of 113, batches of 512 instead of the full batch, 2,500 steps at twice the "
        "learning rate, and 75 % of the unordered pairs with (i, j) and (j, i) on the same side of the split.",
    ),
)
