"""Image generation: a UNet learns to predict the noise that a diffusion process adds to digits (METHOD 1.3)."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING

from specdyn.models.experiments.base import Experiment, Metric, Preset
from specdyn.models.spec.architectures import UNet
from specdyn.models.spec.checks import require
from specdyn.models.spec.data import Images
from specdyn.models.spec.parts import Optimizer, Record
from specdyn.models.spec.run_spec import RunSpec

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor, nn

    from specdyn.models.datasets.decoders.examples import Examples
    from specdyn.models.nets.matrices import LayerPair

NAME = "image_generation"


def build_net(spec: RunSpec) -> nn.Module:
    """The UNet for the set's channels; ValueError for images of another size than 28 x 28."""
    from specdyn.models.nets.unet import UNetNet

    about = spec.data.about
    require(about.size == 28, "dataset", spec.data.dataset, "a set of images of 28 x 28, such as mnist")
    return UNetNet(spec.net, about.channels)


def examples(spec: RunSpec, arrays: Mapping[str, np.ndarray]) -> dict[str, Examples]:
    """Inputs: images float32 (n, C, 28, 28), normalised; targets: their classes (n,), which are not used."""
    from specdyn.models.datasets.decoders.images import image_examples

    return image_examples(spec.data, arrays)


def loss(spec: RunSpec, outputs: Tensor, batch: Examples) -> Tensor:
    """Mean squared error of the predicted noise; times and noise are drawn in the network's forward pass."""
    return outputs.square().mean()


def metrics(spec: RunSpec) -> dict[str, Metric]:
    """The loss."""
    return {
        "loss": Metric(
            of=lambda outputs, batch: loss(spec, outputs, batch), long_name="mean squared error of the noise"
        )
    }


def layer_pairs(spec: RunSpec, net: nn.Module) -> tuple[LayerPair, ...]:
    """METHOD 4.4: 17 pairs, down, up and across."""
    from specdyn.models.nets.unet import unet_pairs

    return unet_pairs(net)


GRID = (0.0, 1e-4, 1e-3, 1e-2, 0.1, 1.0, 10.0)
EPOCH = 422
"""Updates per epoch: 54,000 images in batches of 128, the last one smaller."""

PAPER = RunSpec(
    experiment=NAME,
    net=UNet(),
    data=Images(dataset="mnist"),
    steps=100 * EPOCH,
    batch_size=128,
    optimizer=Optimizer(learning_rate=3e-4),
    record=Record(checkpoint_every=EPOCH, early_checkpoints=4, eval_batch_size=128),
)
SAMPLE = dataclasses.replace(
    PAPER,
    net=UNet(width=32, embedding=128),
    data=Images(dataset="mnist", variant="sample"),
    steps=200,
    batch_size=32,
    optimizer=Optimizer(learning_rate=4e-3),
    record=Record(checkpoint_every=10, eval_batch_size=100, eval_examples=100),
)
PRESETS = {
    "paper": Preset(
        spec=PAPER,
        about="the UNet on MNIST, 1,000 diffusion steps, AdamW, 100 epochs",
        weight_decays=GRID,
        seeds=(0, 1, 2),
    ),
    "sample": Preset(
        spec=SAMPLE,
        about="a UNet of half the width on 2,700 digits, 200 steps: a minute on a laptop",
        weight_decays=(0.0, 1.0, 10.0),
    ),
    "paper-sample": Preset(
        spec=dataclasses.replace(
            SAMPLE,
            net=UNet(),
            steps=16,
            optimizer=Optimizer(learning_rate=3e-4),
            record=Record(checkpoint_every=8, eval_batch_size=100, eval_examples=100),
        ),
        about="the paper's UNet on the same digits, 16 steps: to measure the cost of its analysis",
        weight_decays=(0.0,),
    ),
    "smoke": Preset(
        spec=dataclasses.replace(
            SAMPLE,
            net=UNet(width=32, embedding=32),
            data=Images(dataset="mnist", variant="sample", train_fraction=0.05),
            steps=6,
            batch_size=16,
            record=Record(checkpoint_every=2, eval_batch_size=50, eval_examples=20),
        ),
        about="6 steps on 135 digits: proves the installation, shows no science",
        weight_decays=(0.0, 1.0),
    ),
}

EXPERIMENT = Experiment(
    name=NAME,
    title="Image generation by diffusion",
    kinds=(UNet, Images),
    presets=PRESETS,
    build_net=build_net,
    examples=examples,
    loss=loss,
    metrics=metrics,
    layer_pairs=layer_pairs,
    dataset=lambda spec: (spec.data.dataset, spec.data.variant),
    train_examples=lambda spec, shapes, read: spec.data.train_examples(shapes, read),
    deviations=(
        "Times and noise are drawn on the CPU and, in evaluation, the same for every checkpoint; the published "
        "numbers depend on an unseeded generator.",
        "sample, smoke: 2,700 digits, a UNet of half the width, small batches and a larger learning rate.",
        "paper-sample: the paper's network on those digits, for 16 steps.",
    ),
)
