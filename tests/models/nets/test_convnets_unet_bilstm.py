"""ConvNets, UNet and BiLSTM: published counts, names, shapes and pairs, and what they compute."""

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from specdyn.models.nets.bilstm import BiLstm, BiLstmNet, bilstm_pairs
from specdyn.models.nets.convnet import LeNet, LeNetNet, ResNet, ResNetNet, Vgg, VggNet
from specdyn.models.nets.matrices import consecutive_pairs, layers, shapes_of
from specdyn.models.nets.unet import UNet, UNetNet, diffusion_tables, unet_pairs


@pytest.mark.parametrize(
    ("build", "parameters", "matrices"),
    [
        (lambda: VggNet(Vgg(), channels=3, classes=10), 14_728_266, 14),
        (lambda: ResNetNet(ResNet(), channels=3, classes=10), 272_474, 22),
        (lambda: LeNetNet(LeNet(), channels=3, size=32, classes=10), 62_006, 5),
        (lambda: UNetNet(UNet()), 4_085_761, 16),
        (lambda: BiLstmNet(BiLstm(), features=40, symbols=29), 5_356_061, 17),
    ],
    ids=["VGG-16", "ResNet-20", "LeNet", "UNet", "BiLSTM"],
)
def test_networks_have_the_published_sizes(build: Callable[[], nn.Module], parameters: int, matrices: int) -> None:
    with torch.device("meta"):
        net = build()
    assert sum(p.numel() for p in net.parameters()) == parameters
    assert len(layers(net)) == matrices


def test_vgg_has_the_published_names_buffers_and_pairs() -> None:
    with torch.device("meta"):
        net = VggNet(Vgg(), channels=3, classes=10)
    places = (0, 1, 3, 4, 6, 7, 8, 10, 11, 12, 14, 15, 16)
    assert [m.name for m in layers(net)] == [*(f"layers.{i}.conv.weight" for i in places), "fc.weight"]
    assert sum(b.numel() for b in net.buffers()) == 8_461
    pairs = consecutive_pairs(layers(net), shapes_of(net))
    assert len(pairs) == 13
    assert [pair.positions for pair in pairs] == [9] * 12 + [1]


@pytest.mark.parametrize(
    "net",
    [
        VggNet(Vgg(width=4), channels=3, classes=7),
        ResNetNet(ResNet(width=4, blocks=2), channels=3, classes=7),
        LeNetNet(LeNet(), channels=3, size=32, classes=7),
    ],
    ids=["VGG", "ResNet", "LeNet"],
)
def test_convnets_give_a_logit_a_class_and_treat_images_one_by_one(net: nn.Module) -> None:
    x = torch.randn(5, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    net.eval()
    with torch.no_grad():
        whole = net(x)
        assert whole.shape == (5, 7)
        torch.testing.assert_close(net(x[2:3])[0], whole[2], rtol=1e-4, atol=1e-5)
    assert all(p.requires_grad for p in net.parameters())


def test_lenet_and_vgg_take_images_of_28_pixels_too() -> None:
    x = torch.zeros(2, 1, 28, 28)
    assert LeNetNet(LeNet(), channels=1, size=28, classes=10)(x).shape == (2, 10)
    assert VggNet(Vgg(width=2), channels=1, classes=10).eval()(x).shape == (2, 10)


def test_a_resnet_layer_without_a_matching_neighbour_has_no_pair() -> None:
    net = ResNetNet(ResNet(), channels=3, classes=10)
    pairs = consecutive_pairs(layers(net), shapes_of(net))
    shapes = shapes_of(net)
    assert len(pairs) == 19  # of 21 neighbours, not those from a block's last convolution to its own shortcut
    for pair in pairs:
        assert shapes[pair.writer.parameter][0] == shapes[pair.reader.parameter][1]


def test_the_unet_goes_through_the_published_sizes() -> None:
    net = UNetNet(UNet(width=32, embedding=64))
    seen: list[int] = []
    for name in ("conv1", "conv2", "conv3", "conv4", "tconv4", "tconv3", "tconv2", "tconv1"):
        getattr(net, name).register_forward_hook(lambda module, given, out: seen.append(out.shape[-1]))
    out = net.predict(torch.zeros(2, 1, 28, 28), torch.tensor([0, 999]))
    assert seen == [26, 12, 5, 2, 5, 12, 26, 28]
    assert out.shape == (2, 1, 28, 28)


def test_time_features_keep_the_published_order_of_products() -> None:
    net = UNetNet(UNet(width=32, embedding=64))
    t = torch.tensor([0, 1, 500, 999])
    w = net.time_embed[0].W
    argument = ((t[:, None] * w[None, :]) * 2) * math.pi
    torch.testing.assert_close(net.time_embed[0](t), torch.cat([argument.sin(), argument.cos()], 1), rtol=0, atol=0)
    assert not w.requires_grad


def test_the_noise_schedule_is_the_closed_form() -> None:
    tables = {name: table.double().numpy() for name, table in diffusion_tables(1000).items()}
    beta = 1 / (1 + np.exp(-np.linspace(-6, 6, 1000))) * (5e-3 - 1e-5) + 1e-5
    bar = np.exp(np.cumsum(np.log1p(-beta)))
    np.testing.assert_allclose(tables["betas"], beta, rtol=1e-5)
    np.testing.assert_allclose(tables["alphas_bar_sqrt"], np.sqrt(bar), rtol=1e-4)
    np.testing.assert_allclose(tables["one_minus_alphas_bar_sqrt"], np.sqrt(1 - bar), rtol=1e-3, atol=1e-5)


def test_the_unets_output_is_noise_less_its_prediction() -> None:
    net = UNetNet(UNet(width=32, embedding=64))
    x = torch.randn(3, 1, 28, 28)
    torch.manual_seed(4)
    t = torch.randint(0, 1000, (3,))
    noise = torch.randn(3, 1, 28, 28)
    bar = np.cumprod(1 - net.betas.double().numpy())[t][:, None, None, None]
    noisy = torch.tensor(np.sqrt(bar) * x.double().numpy() + np.sqrt(1 - bar) * noise.double().numpy()).float()
    torch.manual_seed(4)
    found = net(x)
    torch.testing.assert_close(found, noise - net.predict(noisy, t), rtol=1e-3, atol=1e-4)
    assert not torch.equal(net(x), found)


def test_samples_run_the_process_backwards_by_hand() -> None:
    net = UNetNet(UNet(width=32, embedding=64, diffusion_steps=3))
    draw = torch.Generator().manual_seed(1)
    x = torch.randn(2, 1, 28, 28, generator=draw)
    bar = np.cumprod(1 - net.betas.double().numpy())
    with torch.no_grad():
        for t in (2, 1, 0):
            beta = float(net.betas[t])
            predicted = net.predict(x, torch.tensor([t, t]))
            x = (x - beta / math.sqrt(1 - bar[t]) * predicted) / math.sqrt(1 - beta)
            if t:
                x = x + math.sqrt(beta) * torch.randn(2, 1, 28, 28, generator=draw)
    found = net.sample(2, torch.Generator().manual_seed(1))
    torch.testing.assert_close(found, x, rtol=1e-2, atol=1e-2)
    noisy = net.sample(2, torch.Generator().manual_seed(1), noise_at_end=True)
    assert (noisy - found).abs().max() > 1e-4


def test_the_unet_has_the_published_matrices_and_pairs() -> None:
    net = UNetNet(UNet(width=32, embedding=64))
    assert [m.name.removesuffix(".weight") for m in layers(net)] == [
        *("time_embed.1", "conv1", "dense1.dense", "conv2", "dense2.dense", "conv3", "dense3.dense", "conv4"),
        *("dense4.dense", "tconv4", "dense5.dense", "tconv3", "dense6.dense", "tconv2", "dense7.dense", "tconv1"),
    ]
    pairs = unet_pairs(net)
    assert len(pairs) == 17
    assert all(pair.positions == 9 and pair.shown == 4 for pair in pairs)
    assert {pair.reader.transposed for pair in pairs if "tconv" in pair.reader.name} == {True}


def cell(x: np.ndarray, parameters: dict[str, np.ndarray], suffix: str) -> np.ndarray:
    """An LSTM over (T, F), gates i, f, g, o, written out."""
    w, u = parameters[f"weight_ih_{suffix}"], parameters[f"weight_hh_{suffix}"]
    bias = parameters[f"bias_ih_{suffix}"] + parameters[f"bias_hh_{suffix}"]
    h = c = np.zeros(u.shape[1])
    out = []
    for frame in x:
        i, f, g, o = np.split(w @ frame + u @ h + bias, 4)
        c = c / (1 + np.exp(-f)) + np.tanh(g) / (1 + np.exp(-i))
        h = np.tanh(c) / (1 + np.exp(-o))
        out.append(h)
    return np.stack(out)


def test_the_bilstm_is_the_one_written_out_by_hand() -> None:
    torch.manual_seed(0)
    net = BiLstmNet(BiLstm(width=3, depth=2), features=4, symbols=5).double()
    x = torch.randn(1, 6, 4, dtype=torch.float64)
    parameters = {name: p.detach().numpy() for name, p in net.lstm.named_parameters()}
    hidden = x[0].numpy()
    for depth in range(2):
        back = cell(hidden[::-1], parameters, f"l{depth}_reverse")[::-1]
        hidden = np.concatenate([cell(hidden, parameters, f"l{depth}"), back], axis=1)
    logits = hidden @ net.linear.weight.detach().numpy().T + net.linear.bias.detach().numpy()
    expected = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    np.testing.assert_allclose(net(x)[0].detach().numpy(), expected, rtol=1e-9)


def test_the_bilstm_pairs_are_the_published_ones_and_the_reverse_half() -> None:
    config = BiLstm()
    pairs = bilstm_pairs(config)
    names = [pair.name.replace("lstm.weight_", "") for pair in pairs]
    assert len(names) == len(set(names)) == 22 + 2
    for depth in range(3):
        assert f"ih_l{depth} -> hh_l{depth}" in names
        assert f"ih_l{depth}_reverse -> ih_l{depth + 1}_reverse[reverse]" in names
        assert f"hh_l{depth} -> ih_l{depth + 1}[forward]" in names
    assert names.count("ih_l3_reverse -> linear.weight[forward]") == 1  # as published
    assert names[-2:] == ["ih_l3_reverse -> linear.weight[reverse]", "hh_l3_reverse -> linear.weight[reverse]"]
    assert all((pair.gates, pair.shown) == (4, 2) for pair in pairs)


def test_halves_are_the_columns_of_the_direction_that_writes() -> None:
    config = BiLstm(width=3, depth=2)
    net = BiLstmNet(config, features=4, symbols=5)
    weights: dict[str, Tensor] = {name: p.detach() for name, p in net.named_parameters()}
    for pair in bilstm_pairs(config):
        writer, reader = pair.writer.of(weights), pair.reader.of(weights)
        assert writer.shape[0] == 4 * reader.shape[1]
        if pair.reader.part:
            columns = slice(0, 3) if pair.reader.part == "forward" else slice(3, 6)
            assert torch.equal(reader, weights[pair.reader.parameter][:, columns])


@pytest.mark.parametrize(
    ("kind", "wrong", "why"),
    [
        (Vgg, {"width": 0}, "width=0 is not allowed"),
        (ResNet, {"blocks": 0}, "blocks=0 is not allowed"),
        (LeNet, {"width": 0}, "width=0 is not allowed"),
        (UNet, {"width": 33}, "a multiple of 32"),
        (UNet, {"embedding": 5}, "an even number"),
        (BiLstm, {"depth": 0}, "depth=0 is not allowed"),
    ],
)
def test_impossible_architectures_are_refused(kind: type, wrong: dict[str, int], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        kind(**wrong)
