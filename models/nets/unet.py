"""Residual UNet that predicts the noise of a diffusion process, and the process itself (METHOD 1.3).

Shapes: B batch, H height, W width, E size of the time embedding, T diffusion steps.
"""

import math

import torch
from torch import Tensor, nn

from specdyn.models.nets.matrices import LayerPair, feed, layers, shapes_of
from specdyn.models.spec.architectures import UNet


def swish(x: Tensor) -> Tensor:
    """x * sigmoid(x)."""
    return x * torch.sigmoid(x)


class FourierFeatures(nn.Module):
    """Sine and cosine of time at fixed Gaussian frequencies."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.W = nn.Parameter(torch.randn(size // 2) * 30.0, requires_grad=False)

    def forward(self, t_B: Tensor) -> Tensor:
        # Arguments reach 5e5, where float32 is coarse: a different order of products changes the features.
        argument_BE = t_B[:, None] * self.W[None, :] * 2 * math.pi
        return torch.cat([torch.sin(argument_BE), torch.cos(argument_BE)], dim=-1)


class TimeBias(nn.Module):
    """A bias for each channel, linear in the time embedding."""

    def __init__(self, embedding: int, channels: int) -> None:
        super().__init__()
        self.dense = nn.Linear(embedding, channels)

    def forward(self, embedded_BE: Tensor) -> Tensor:
        return self.dense(embedded_BE)[..., None, None]


class UNetNet(nn.Module):
    """Images (B, C, 28, 28) to the error of the predicted noise, (B, C, 28, 28); see `forward`."""

    betas: Tensor
    alphas: Tensor
    alphas_bar_sqrt: Tensor
    one_minus_alphas_bar_sqrt: Tensor

    def __init__(self, config: UNet, channels: int = 1) -> None:
        super().__init__()
        self.config = config
        c1, c2, c3, c4 = (config.width * factor for factor in (1, 2, 4, 8))
        size = config.embedding
        self.time_embed = nn.Sequential(FourierFeatures(size), nn.Linear(size, size))
        self.conv1 = nn.Conv2d(channels, c1, 3, bias=False)
        self.dense1, self.gnorm1 = TimeBias(size, c1), nn.GroupNorm(4, c1)
        self.conv2 = nn.Conv2d(c1, c2, 3, stride=2, bias=False)
        self.dense2, self.gnorm2 = TimeBias(size, c2), nn.GroupNorm(32, c2)
        self.conv3 = nn.Conv2d(c2, c3, 3, stride=2, bias=False)
        self.dense3, self.gnorm3 = TimeBias(size, c3), nn.GroupNorm(32, c3)
        self.conv4 = nn.Conv2d(c3, c4, 3, stride=2, bias=False)
        self.dense4, self.gnorm4 = TimeBias(size, c4), nn.GroupNorm(32, c4)
        self.tconv4 = nn.ConvTranspose2d(c4, c3, 3, stride=2, bias=False)
        self.dense5, self.tgnorm4 = TimeBias(size, c3), nn.GroupNorm(32, c3)
        self.tconv3 = nn.ConvTranspose2d(c3, c2, 3, stride=2, bias=False, output_padding=1)
        self.dense6, self.tgnorm3 = TimeBias(size, c2), nn.GroupNorm(32, c2)
        self.tconv2 = nn.ConvTranspose2d(c2, c1, 3, stride=2, bias=False, output_padding=1)
        self.dense7, self.tgnorm2 = TimeBias(size, c1), nn.GroupNorm(32, c1)
        self.tconv1 = nn.ConvTranspose2d(c1, channels, 3)
        for name, table in diffusion_tables(config.diffusion_steps).items():
            self.register_buffer(name, table, persistent=False)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Noise minus the network's prediction of it, at a random time of the process for each image.

        Times and noise come from torch's generator on the CPU, so that they are the same on every device.
        """
        t_B = torch.randint(0, self.config.diffusion_steps, (len(x_BCHW),)).to(x_BCHW.device)
        noise = torch.randn(x_BCHW.shape).to(x_BCHW.device)
        scale, spread = (
            table[t_B][:, None, None, None] for table in (self.alphas_bar_sqrt, self.one_minus_alphas_bar_sqrt)
        )
        return noise - self.predict(scale * x_BCHW + spread * noise, t_B)

    def predict(self, x_BCHW: Tensor, t_B: Tensor) -> Tensor:
        """The noise in images at times t of the process."""
        e = swish(self.time_embed(t_B))
        h1 = swish(self.gnorm1(self.conv1(x_BCHW) + self.dense1(e)))
        h2 = swish(self.gnorm2(self.conv2(h1) + self.dense2(e)))
        h3 = swish(self.gnorm3(self.conv3(h2) + self.dense3(e)))
        h4 = swish(self.gnorm4(self.conv4(h3) + self.dense4(e)))
        h = swish(self.tgnorm4(self.tconv4(h4) + self.dense5(e)))
        h = swish(self.tgnorm3(self.tconv3(h + h3) + self.dense6(e)))
        h = swish(self.tgnorm2(self.tconv2(h + h2) + self.dense7(e)))
        return self.tconv1(h + h1)

    @torch.no_grad()
    def sample(self, count: int, generator: torch.Generator, noise_at_end: bool = False) -> Tensor:
        """Draw images (count, C, 28, 28) by running the process backwards from noise of the CPU's generator.

        The published code adds noise after the last step too; `noise_at_end` does the same.
        """
        device = self.betas.device
        x = torch.randn(count, self.conv1.in_channels, 28, 28, generator=generator).to(device)
        for t in reversed(range(self.config.diffusion_steps)):
            predicted = self.predict(x, torch.full((count,), t, device=device))
            beta, alpha, spread = self.betas[t], self.alphas[t], self.one_minus_alphas_bar_sqrt[t]
            x = (x - (1 - alpha) / spread * predicted) / alpha.sqrt()
            if t or noise_at_end:
                x = x + beta.sqrt() * torch.randn(x.shape, generator=generator).to(device)
        return x


def diffusion_tables(steps: int) -> dict[str, Tensor]:
    """Noise schedule of the process, each (T,): betas on a sigmoid from 1e-5 to 5e-3, and derived quantities."""
    betas = torch.sigmoid(torch.linspace(-6, 6, steps)) * (5e-3 - 1e-5) + 1e-5
    alphas = 1 - betas
    bar = torch.cumprod(alphas, 0)
    return {
        "betas": betas,
        "alphas": alphas,
        "alphas_bar_sqrt": bar.sqrt(),
        "one_minus_alphas_bar_sqrt": (1 - bar).sqrt(),
    }


PAIRS = (
    *(("conv1", "conv2"), ("conv2", "conv3"), ("conv3", "conv4")),
    *(("dense1", "conv2"), ("dense2", "conv3"), ("dense3", "conv4"), ("dense4", "tconv4")),
    *(("conv4", "tconv4"), ("tconv4", "tconv3"), ("tconv3", "tconv2"), ("tconv2", "tconv1")),
    *(("conv1", "tconv1"), ("dense1", "tconv1"), ("conv2", "tconv2"), ("dense2", "tconv2")),
    *(("conv3", "tconv3"), ("dense3", "tconv3")),
)
"""Writer and reader of each pair: down, up, and across by skip connections (METHOD 4.4)."""


def unet_pairs(net: nn.Module) -> tuple[LayerPair, ...]:
    """The 17 published pairs."""
    named = {layer.parameter.split(".")[0]: layer for layer in layers(net)}
    found = [feed(named[writer], named[reader], shapes_of(net)) for writer, reader in PAIRS]
    return tuple(pair for pair in found if pair is not None)
