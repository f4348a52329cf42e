"""Language modelling: a twelve-layer transformer predicts the next token of Wikipedia articles (METHOD 1.5)."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING

from specdyn.models.experiments.base import Experiment, Metric, Preset
from specdyn.models.spec.architectures import Transformer
from specdyn.models.spec.data import Text
from specdyn.models.spec.parts import Decay, Numerics, Optimizer, Record, Schedule
from specdyn.models.spec.run_spec import RunSpec

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor, nn

    from specdyn.models.datasets.decoders.examples import Examples
    from specdyn.models.nets.matrices import LayerPair

NAME = "language_modelling"


def build_net(spec: RunSpec) -> nn.Module:
    """The transformer over the tokenizer's vocabulary, with logits at every position."""
    from specdyn.models.nets.transformer import LanguageModel

    return LanguageModel(spec.net, vocabulary=spec.data.vocabulary, length=spec.data.length)


def examples(spec: RunSpec, arrays: Mapping[str, np.ndarray]) -> dict[str, Examples]:
    """Inputs: tokens (N, T); targets: the next token of each (N, T)."""
    from specdyn.models.datasets.decoders.tokens import token_examples

    return token_examples(spec.data, arrays)


def loss(spec: RunSpec, outputs: Tensor, batch: Examples) -> Tensor:
    """Cross-entropy, averaged over all tokens."""
    from torch.nn import functional as F

    return F.cross_entropy(outputs.flatten(0, 1), batch.targets.flatten())


def metrics(spec: RunSpec) -> dict[str, Metric]:
    """The loss; its exponential is the perplexity."""
    return {"loss": Metric(of=lambda outputs, batch: loss(spec, outputs, batch), long_name="loss", units="nat")}


def layer_pairs(spec: RunSpec, net: nn.Module) -> tuple[LayerPair, ...]:
    """METHOD 4.4: 61 pairs of twelve layers, and each layer's values with the output projection by head."""
    from specdyn.models.nets.transformer import transformer_pairs

    return transformer_pairs(spec.net)


GRID = (0.0, 1e-4, 1e-3, 1e-2, 0.1, 1.0, 10.0)
EPOCH = 222
"""Updates per epoch: about 57,000 blocks in batches of 4, with 64 batches per update."""

PAPER = RunSpec(
    experiment=NAME,
    net=Transformer(width=768, heads=12, feedforward=768, depth=12, layernorm=True),
    data=Text(),
    steps=10 * EPOCH,
    batch_size=4,
    accumulate=64,
    optimizer=Optimizer(learning_rate=6e-4, beta2=0.95, clip_norm=1.0),
    schedule=Schedule(name="warmup-cosine", warmup=200, period=6660),
    decay=Decay(weight_decay=0.1),
    numerics=Numerics(precision="float16"),
    record=Record(checkpoint_every=EPOCH, early_checkpoints=4, eval_batch_size=4, eval_examples=1000),
)
SAMPLE = dataclasses.replace(
    PAPER,
    net=Transformer(width=64, heads=4, feedforward=64, depth=2, layernorm=True),
    data=Text(dataset="devils_dictionary", variant="sample", vocabulary=512, length=64),
    steps=300,
    batch_size=32,
    accumulate=1,
    optimizer=Optimizer(learning_rate=3e-3, beta2=0.95, clip_norm=1.0),
    schedule=Schedule(name="warmup", warmup=20),
    numerics=Numerics(),
    record=Record(checkpoint_every=20, early_checkpoints=4, eval_batch_size=100, eval_examples=200),
)
PRESETS = {
    "paper": Preset(
        spec=PAPER,
        about="twelve layers on WikiText-103, half precision, 256 blocks of 2,048 tokens an update, 10 epochs",
        weight_decays=GRID,
        seeds=(0, 1, 2),
    ),
    "sample": Preset(
        spec=SAMPLE,
        about="two narrow layers on the Devil's Dictionary, 300 updates: half a minute on a laptop",
        weight_decays=(0.0, 1.0, 10.0),
    ),
    "paper-sample": Preset(
        spec=dataclasses.replace(
            SAMPLE,
            net=PAPER.net,
            steps=6,
            batch_size=4,
            optimizer=Optimizer(learning_rate=6e-4, beta2=0.95, clip_norm=1.0),
            record=Record(checkpoint_every=3, eval_batch_size=16, eval_examples=16),
        ),
        about="the paper's twelve layers on the same text, 6 updates: to measure the cost of their analysis",
        weight_decays=(0.1,),
    ),
    "smoke": Preset(
        spec=dataclasses.replace(
            SAMPLE,
            net=Transformer(width=16, heads=2, feedforward=16, depth=2, layernorm=True),
            steps=12,
            batch_size=8,
            record=Record(checkpoint_every=4, eval_batch_size=100, eval_examples=50),
        ),
        about="12 updates of two very narrow layers: proves the installation, shows no science",
        weight_decays=(0.0, 1.0),
    ),
}

EXPERIMENT = Experiment(
    name=NAME,
    title="Language modelling",
    kinds=(Transformer, Text),
    presets=PRESETS,
    build_net=build_net,
    examples=examples,
    loss=loss,
    metrics=metrics,
    layer_pairs=layer_pairs,
    dataset=lambda spec: (spec.data.dataset, spec.data.variant),
    train_examples=lambda spec, shapes, read: spec.data.train_examples(shapes, read),
    deviations=(
        "The embedding has a row for every id of the tokenizer, 50,277; the published network has 50,254, which lacks "
        "the ids of added white space.",
        "An epoch is taken as 222 updates; the exact number of blocks is not recorded.",
        "sample, smoke: the Devil's Dictionary in 512 tokens, blocks of 64, two narrow layers, float32, and a larger "
        "learning rate.",
        "paper-sample: the paper's network on that text, for 6 updates.",
    ),
)
