"""ConvNets for images of 32 x 32 or 28 x 28: VGG with BatchNorm, ResNet, LeNet (METHOD 1.2).

Shapes: B batch, C channels, H height, W width, K classes.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from specdyn.models.spec.architectures import LeNet, ResNet, Vgg

VGG_16 = (1, 1, 0, 2, 2, 0, 4, 4, 4, 0, 8, 8, 8, 0, 8, 8, 8)
"""Channels of each convolution in units of the width; 0 is a maximum over 2 x 2 pixels."""


class ConvNormBlock(nn.Module):
    """Convolution of 3 x 3 with bias, BatchNorm, ReLU."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.bn = nn.BatchNorm2d(outputs)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        return F.relu(self.bn(self.conv(x_BCHW)))


class VggNet(nn.Module):
    """Images (B, C, H, W) to logits (B, K); convolutions are layers.0.conv, layers.1.conv, layers.3.conv, ..."""

    def __init__(self, config: Vgg, channels: int, classes: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        before = channels
        for factor in VGG_16:
            if not factor:
                layers.append(nn.MaxPool2d(2))
                continue
            layers.append(ConvNormBlock(before, factor * config.width))
            before = factor * config.width
        # The mean over the 2 x 2 pixels that remain of 32 x 32; smaller images leave one pixel.
        layers.append(nn.AdaptiveAvgPool2d(1))
        self.layers = nn.Sequential(*layers)
        self.fc = nn.Linear(before, classes)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        return self.fc(self.layers(x_BCHW).flatten(1))


class ResidualBlock(nn.Module):
    """Two convolutions without bias and a shortcut, projected where the shape changes."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.shortcut: nn.Module = nn.Identity()
        if stride > 1 or inputs != outputs:
            self.shortcut = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride=stride, bias=False), nn.BatchNorm2d(outputs)
            )

    def forward(self, x_BCHW: Tensor) -> Tensor:
        hidden = F.relu(self.bn1(self.conv1(x_BCHW)))
        return F.relu(self.bn2(self.conv2(hidden)) + self.shortcut(x_BCHW))


class ResNetNet(nn.Module):
    """Images (B, C, H, W) to logits (B, K): a convolution, three stages of blocks, a global mean, a linear layer."""

    def __init__(self, config: ResNet, channels: int, classes: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, config.width, 3, padding=1, bias=False)
        self.bn = nn.BatchNorm2d(config.width)
        blocks: list[nn.Module] = []
        before = config.width
        for stage, factor in enumerate((1, 2, 4)):
            for i in range(config.blocks):
                stride = 2 if stage and not i else 1
                blocks.append(ResidualBlock(before, factor * config.width, stride))
                before = factor * config.width
        self.blocks = nn.Sequential(*blocks)
        self.fc = nn.Linear(before, classes)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        x_BCHW = self.blocks(F.relu(self.bn(self.conv(x_BCHW))))
        return self.fc(x_BCHW.mean(dim=(2, 3)))


class LeNetNet(nn.Module):
    """Images (B, C, size, size) to logits (B, K)."""

    def __init__(self, config: LeNet, channels: int, size: int, classes: int) -> None:
        super().__init__()
        first, second = config.width, 16 * config.width // 6
        self.convs = nn.ModuleList([nn.Conv2d(channels, first, 5), nn.Conv2d(first, second, 5)])
        pixels = ((size - 4) // 2 - 4) // 2
        sizes = (second * pixels * pixels, 20 * config.width, 14 * config.width)
        self.layers = nn.ModuleList([nn.Linear(sizes[0], sizes[1]), nn.Linear(sizes[1], sizes[2])])
        self.fc = nn.Linear(sizes[2], classes)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        for conv in self.convs:
            x_BCHW = F.max_pool2d(F.relu(conv(x_BCHW)), 2)
        x = torch.flatten(x_BCHW, 1)
        for layer in self.layers:
            x = F.relu(layer(x))
        return self.fc(x)
