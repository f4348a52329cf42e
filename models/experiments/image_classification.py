"""Image classification with VGG-16, an MLP, ResNet-20 or LeNet on CIFAR-10 and similar sets (METHOD 1.2)."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING

from specdyn.models.experiments.base import Experiment, Metric, Preset
from specdyn.models.spec.architectures import LeNet, Mlp, ResNet, Vgg
from specdyn.models.spec.data import Images
from specdyn.models.spec.parts import Decay, Optimizer, Record, Schedule
from specdyn.models.spec.run_spec import RunSpec

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor, nn

    from specdyn.models.datasets.decoders.examples import Examples
    from specdyn.models.nets.matrices import LayerPair

NAME = "image_classification"


def build_net(spec: RunSpec) -> nn.Module:
    """The network for the set's channels, size and classes."""
    from specdyn.models.nets.convnet import LeNetNet, ResNetNet, VggNet
    from specdyn.models.nets.mlp import MlpNet

    about = spec.data.about
    match spec.net:
        case Vgg():
            return VggNet(spec.net, about.channels, about.classes)
        case ResNet():
            return ResNetNet(spec.net, about.channels, about.classes)
        case LeNet():
            return LeNetNet(spec.net, about.channels, about.size, about.classes)
        case _:
            return MlpNet(spec.net, inputs=about.channels * about.size**2, outputs=about.classes)


def examples(spec: RunSpec, arrays: Mapping[str, np.ndarray]) -> dict[str, Examples]:
    """Inputs: images float32 (n, C, H, W), normalised; targets: classes (n,)."""
    from specdyn.models.datasets.decoders.images import image_examples

    return image_examples(spec.data, arrays)


def loss(spec: RunSpec, outputs: Tensor, batch: Examples) -> Tensor:
    """Cross-entropy."""
    from torch.nn import functional as F

    return F.cross_entropy(outputs, batch.targets)


def metrics(spec: RunSpec) -> dict[str, Metric]:
    """Loss, and the fraction of wrong answers."""
    return {
        "loss": Metric(of=lambda outputs, batch: loss(spec, outputs, batch), long_name="loss", units="nat"),
        "err": Metric(
            of=lambda outputs, batch: (outputs.argmax(-1) != batch.targets).float().mean(), long_name="error rate"
        ),
    }


def layer_pairs(spec: RunSpec, net: nn.Module) -> tuple[LayerPair, ...]:
    """METHOD 4.4: consecutive layers whose shapes fit; 13 pairs of VGG-16."""
    from specdyn.models.nets.matrices import consecutive_pairs, layers, shapes_of

    return consecutive_pairs(layers(net), shapes_of(net))


GRID = (0.0, 1e-4, 1e-3, 1e-2, 0.1, 1.0, 10.0)
SEEDS = (0, 1, 2)
EPOCH = 352
"""Updates per epoch: 45,000 images in batches of 128, the last one smaller."""

PAPER = RunSpec(
    experiment=NAME,
    net=Vgg(),
    data=Images(),
    steps=164 * EPOCH,
    batch_size=128,
    optimizer=Optimizer(name="sgd", learning_rate=0.1, momentum=0.9),
    schedule=Schedule(name="milestones", milestones=(82, 123, 160)),
    decay=Decay(weight_decay=1e-4),
    record=Record(checkpoint_every=EPOCH, early_checkpoints=4, eval_batch_size=128),
)
MLP = dataclasses.replace(
    PAPER,
    net=Mlp(width=256, hidden_layers=3),
    steps=300 * EPOCH,
    optimizer=Optimizer(name="sgd", learning_rate=1e-3, momentum=0.9),
    schedule=Schedule(),
    decay=Decay(),
)
PHOTOS = Images(dataset="photos", variant="sample")
SAMPLE = dataclasses.replace(
    PAPER,
    net=Vgg(width=8),
    data=PHOTOS,
    steps=256,
    batch_size=64,
    optimizer=Optimizer(name="sgd", learning_rate=0.02, momentum=0.9),
    schedule=Schedule(name="milestones", milestones=(6,)),
    decay=Decay(),
    record=Record(checkpoint_every=16, early_checkpoints=3, eval_batch_size=500, eval_examples=500),
)
PRESETS = {
    "paper": Preset(
        spec=PAPER,
        about="VGG-16 with BatchNorm on CIFAR-10, SGD with momentum, 164 epochs",
        weight_decays=GRID,
        seeds=SEEDS,
    ),
    "mlp-true": Preset(
        spec=MLP,
        about="MLP 3072-256-256-256-10 on CIFAR-10 with its labels, 300 epochs without weight decay",
        weight_decays=(0.0,),
        seeds=SEEDS,
        axes={"learning_rate": (0.1, 0.01, 1e-3, 1e-4)},
    ),
    "mlp-random": Preset(
        spec=dataclasses.replace(MLP, data=Images(labels="random")),
        about="the same MLP on permuted labels: memorises them and does not generalise",
        weight_decays=(0.0,),
        seeds=SEEDS,
        axes={"learning_rate": (0.1, 0.01, 1e-3, 1e-4)},
    ),
    "resnet": Preset(
        spec=dataclasses.replace(PAPER, net=ResNet()),
        about="ResNet-20 with the settings of VGG-16; described with the paper's code, in none of its sweeps",
        weight_decays=GRID,
        seeds=SEEDS,
    ),
    "lenet": Preset(
        spec=dataclasses.replace(PAPER, net=LeNet(), optimizer=Optimizer(name="sgd", learning_rate=0.01, momentum=0.9)),
        about="LeNet with the settings of VGG-16 at a tenth of the rate; in none of the paper's sweeps",
        weight_decays=GRID,
        seeds=SEEDS,
    ),
    "sample": Preset(
        spec=SAMPLE,
        about="a narrow VGG-16 on crops of nine photos, 8 epochs: half a minute on a laptop, does not use CIFAR-10",
        weight_decays=(0.0, 1e-2, 0.1),
    ),
    "paper-sample": Preset(
        spec=dataclasses.replace(
            SAMPLE,
            net=Vgg(),
            steps=16,
            batch_size=32,
            record=Record(checkpoint_every=8, eval_batch_size=128, eval_examples=128),
        ),
        about="the paper's VGG-16 on the same crops, 16 steps: to measure the cost of its analysis",
        weight_decays=(0.0,),
    ),
    "smoke": Preset(
        spec=dataclasses.replace(
            SAMPLE,
            net=Vgg(width=4),
            data=dataclasses.replace(PHOTOS, train_fraction=0.05),
            steps=12,
            batch_size=16,
            record=Record(checkpoint_every=4, early_checkpoints=3, eval_batch_size=100, eval_examples=100),
        ),
        about="12 steps of a very narrow VGG-16 on 100 crops: proves the installation, shows no science",
        weight_decays=(0.0, 0.1),
    ),
}

EXPERIMENT = Experiment(
    name=NAME,
    title="Image classification",
    kinds=(Vgg, Mlp, ResNet, LeNet, Images),
    presets=PRESETS,
    build_net=build_net,
    examples=examples,
    loss=loss,
    metrics=metrics,
    layer_pairs=layer_pairs,
    dataset=lambda spec: (spec.data.dataset, spec.data.variant),
    train_examples=lambda spec, shapes, read: spec.data.train_examples(shapes, read),
    deviations=(
        "resnet, lenet: the published code silently builds the MLP instead, so there are no published settings.",
        "sample, smoke: crops of nine photos, which are not CIFAR-10, a VGG-16 of fewer channels, and a smaller "
        "learning rate.",
        "paper-sample: the paper's network on those crops, for 16 steps.",
    ),
)
