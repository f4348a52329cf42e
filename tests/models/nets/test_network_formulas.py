"""Outputs of the networks against a plain walk over their named weights (METHOD 1.2, 1.3)."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from specdyn.models.nets.convnet import LeNet, LeNetNet, ResNet, ResNetNet, Vgg, VggNet
from specdyn.models.nets.matrices import consecutive_pairs, layers, shapes_of
from specdyn.models.nets.mlp import Mlp, MlpNet
from specdyn.models.nets.unet import UNet, UNetNet

VGG_CONVOLUTIONS = (0, 1, 3, 4, 6, 7, 8, 10, 11, 12, 14, 15, 16)
STATISTICS = ("running_mean", "running_var", "weight", "bias")
DOWN = {1: (1, 4), 2: (2, 32), 3: (2, 32), 4: (2, 32)}
"""Number of the UNet's convolution -> stride, groups of its norm."""


def randomised(net: nn.Module) -> dict[str, Tensor]:
    """Move all weights and statistics, so that none is 0 or 1; returns them by name."""
    torch.manual_seed(1)
    with torch.no_grad():
        for name, tensor in net.state_dict().items():
            if tensor.is_floating_point():
                tensor.add_(torch.rand(tensor.shape) * (0.5 if "var" in name else 0.1))
    return net.eval().state_dict()


def normed(x: Tensor, w: dict[str, Tensor], name: str) -> Tensor:
    mean, var, gain, shift = (w[f"{name}.{key}"][:, None, None] for key in STATISTICS)
    return (x - mean) / (var + 1e-5).sqrt() * gain + shift


@pytest.mark.parametrize("size", [32, 28])
def test_vgg_is_convolution_norm_relu_with_a_maximum_after_each_stage(size: int) -> None:
    net = VggNet(Vgg(width=2), channels=3, classes=5)
    w = randomised(net)
    images = torch.randn(4, 3, size, size)
    x = images
    for i in range(17):
        if i in VGG_CONVOLUTIONS:
            x = F.conv2d(x, w[f"layers.{i}.conv.weight"], w[f"layers.{i}.conv.bias"], padding=1)
            x = normed(x, w, f"layers.{i}.bn").clamp(min=0)
        else:
            x = F.max_pool2d(x, 2)
    assert x.shape[2:] == (size // 16, size // 16)
    expected = x.mean((2, 3)) @ w["fc.weight"].T + w["fc.bias"]
    torch.testing.assert_close(net(images), expected, rtol=1e-4, atol=1e-4)


def test_resnet_adds_the_shortcut_before_the_last_relu_of_a_block() -> None:
    net = ResNetNet(ResNet(width=2, blocks=2), channels=3, classes=5)
    w = randomised(net)
    images = torch.randn(4, 3, 32, 32)
    x = normed(F.conv2d(images, w["conv.weight"], padding=1), w, "bn").clamp(min=0)
    sides = []
    for i in range(6):
        name, stride = f"blocks.{i}", 2 if i in (2, 4) else 1
        hidden = F.conv2d(x, w[f"{name}.conv1.weight"], stride=stride, padding=1)
        hidden = F.conv2d(normed(hidden, w, f"{name}.bn1").clamp(min=0), w[f"{name}.conv2.weight"], padding=1)
        if stride == 2:
            x = normed(F.conv2d(x, w[f"{name}.shortcut.0.weight"], stride=2), w, f"{name}.shortcut.1")
        x = (normed(hidden, w, f"{name}.bn2") + x).clamp(min=0)
        sides.append(x.shape[-1])
    assert sides == [32, 32, 16, 16, 8, 8]
    expected = x.mean((2, 3)) @ w["fc.weight"].T + w["fc.bias"]
    torch.testing.assert_close(net(images), expected, rtol=1e-4, atol=1e-4)


def test_lenet_is_two_convolutions_with_maxima_and_three_linear_layers() -> None:
    net = LeNetNet(LeNet(), channels=1, size=28, classes=10)
    w = randomised(net)
    images = torch.randn(3, 1, 28, 28)
    x = images
    for i in range(2):
        x = F.max_pool2d(F.conv2d(x, w[f"convs.{i}.weight"], w[f"convs.{i}.bias"]), 2).clamp(min=0)
    x = x.flatten(1)
    assert x.shape[1] == 256
    for i in range(2):
        x = (x @ w[f"layers.{i}.weight"].T + w[f"layers.{i}.bias"]).clamp(min=0)
    torch.testing.assert_close(net(images), x @ w["fc.weight"].T + w["fc.bias"], rtol=1e-4, atol=1e-4)


def test_pairs_that_do_not_fit_are_left_out() -> None:
    net = LeNetNet(LeNet(), channels=3, size=32, classes=10)
    found = [pair.name for pair in consecutive_pairs(layers(net), shapes_of(net))]
    # the 400 inputs of the first linear layer are 16 channels at 25 places
    assert found == [
        "convs.0.weight -> convs.1.weight",
        "layers.0.weight -> layers.1.weight",
        "layers.1.weight -> fc.weight",
    ]


def test_the_mlp_takes_images_as_rows_of_their_pixels() -> None:
    net = MlpNet(Mlp(width=4, hidden_layers=1), inputs=12, outputs=2)
    images = torch.randn(5, 3, 2, 2)
    torch.testing.assert_close(net(images), net(images.reshape(5, 12)))


def test_convolutions_start_uniform_within_the_inverse_root_of_their_inputs() -> None:
    torch.manual_seed(0)
    weight = VggNet(Vgg(), channels=3, classes=10).layers[3].conv.weight
    bound = 1 / math.sqrt(64 * 9)
    assert 0.999 * bound < float(weight.detach().abs().max()) <= bound


def small() -> UNetNet:
    torch.manual_seed(0)
    return UNetNet(UNet(width=32, embedding=64))


def plain_prediction(w: dict[str, Tensor], x: Tensor, t: Tensor) -> Tensor:
    """The network's formula over its named weights."""

    def act(h: Tensor) -> Tensor:
        return h / (1 + torch.exp(-h))

    def bias(i: int) -> Tensor:
        return (e @ w[f"dense{i}.dense.weight"].T + w[f"dense{i}.dense.bias"])[:, :, None, None]

    def norm(h: Tensor, groups: int, name: str) -> Tensor:
        grouped = h.reshape(len(h), groups, -1)
        centred = grouped - grouped.mean(-1, keepdim=True)
        scaled = centred / (centred.square().mean(-1, keepdim=True) + 1e-5).sqrt()
        return scaled.reshape(h.shape) * w[f"{name}.weight"][:, None, None] + w[f"{name}.bias"][:, None, None]

    angle = t[:, None] * w["time_embed.0.W"] * 2 * math.pi
    e = act(torch.cat([angle.sin(), angle.cos()], 1) @ w["time_embed.1.weight"].T + w["time_embed.1.bias"])
    h, skipped = x, {}
    for i, (stride, groups) in DOWN.items():
        h = F.conv2d(h, w[f"conv{i}.weight"], stride=stride) + bias(i)
        h = skipped[i] = act(norm(h, groups, f"gnorm{i}"))
    for i, extra in ((4, 0), (3, 1), (2, 1)):
        given = h if i == 4 else h + skipped[i]
        h = F.conv_transpose2d(given, w[f"tconv{i}.weight"], stride=2, output_padding=extra) + bias(9 - i)
        h = act(norm(h, 32, f"tgnorm{i}"))
    return F.conv_transpose2d(h + skipped[1], w["tconv1.weight"], w["tconv1.bias"])


def test_the_prediction_follows_the_formula() -> None:
    net = small().double()
    with torch.no_grad():
        for parameter in net.parameters():
            if parameter.requires_grad:
                parameter.add_(0.1 * torch.rand_like(parameter))
    x, t = torch.randn(3, 1, 28, 28, dtype=torch.float64), torch.tensor([0, 17, 999])
    torch.testing.assert_close(net.predict(x, t), plain_prediction(net.state_dict(), x, t), rtol=1e-9, atol=1e-9)


def test_time_is_multiplied_in_the_published_order() -> None:
    features = small().time_embed[0]
    t = torch.tensor([999, 640])
    w = features.W.detach().numpy()
    first = t.numpy().astype(np.float32)[:, None] * w
    argument = first * np.float32(2) * np.float32(math.pi)
    other = t.numpy().astype(np.float32)[:, None] * (w * np.float32(2 * math.pi))
    found = features(t).numpy()[:, :32]
    np.testing.assert_allclose(found, np.sin(argument.astype(np.float64)), atol=1e-6)
    assert np.abs(found - np.sin(other.astype(np.float64))).max() > 1e-3


def test_the_fourier_frequencies_are_not_trained() -> None:
    net = small()
    net(torch.randn(2, 1, 28, 28)).square().mean().backward()
    without = {name for name, parameter in net.named_parameters() if parameter.grad is None}
    assert without == {"time_embed.0.W"}
    assert float(net.time_embed[0].W.std()) == pytest.approx(30, rel=0.4)
