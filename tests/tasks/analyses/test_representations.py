"""RankMe and alpha-ReQ of known spectra, of features computed by hand, and how often the network is run."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from specdyn.models.datasets.decoders.examples import Examples
from specdyn.models.experiments.base import get_experiment
from specdyn.models.nets.matrices import layers
from specdyn.models.spec.settings import with_settings
from specdyn.storage.places import Store
from specdyn.tasks.analyses.representations import rankme, slope, spectra
from specdyn.tasks.evaluation.evaluator import Evaluator
from specdyn.tasks.evaluation.examples import load_examples
from specdyn.tasks.evaluation.representations import Moments, moments
from specdyn.tasks.spectra.analysis import CheckpointView, Decomposed, get_analysis


def features(variances: np.ndarray, rows: int, mean: float = 0.0) -> np.ndarray:
    """Rows of exactly this covariance and mean."""
    draw = np.random.default_rng(0).normal(size=(rows, 1 + len(variances)))
    draw[:, 0] = 1
    orthogonal = np.linalg.qr(draw)[0][:, 1:]
    turn = np.linalg.qr(np.random.default_rng(1).normal(size=(len(variances),) * 2))[0]
    return math.sqrt(rows) * orthogonal * np.sqrt(variances) @ turn.T + mean


def of(z_ND: np.ndarray) -> Moments:
    return Moments(len(z_ND), torch.tensor(z_ND.sum(0)), torch.tensor(z_ND.T @ z_ND))


def test_rankme_is_the_exponential_of_the_entropy() -> None:
    assert rankme(np.eye(7)) == pytest.approx(7)
    assert rankme(np.ones((5, 5))) == pytest.approx(1, abs=1e-5)
    assert rankme(np.diag([9.0, 1.0])) == pytest.approx(math.exp(-0.75 * math.log(0.75) - 0.25 * math.log(0.25)))
    assert math.isnan(rankme(np.zeros((3, 3))))


@pytest.mark.parametrize("alpha", [0.5, 1.0, 2.0])
def test_alpha_is_the_exponent_of_the_covariance_whatever_the_mean(alpha: float) -> None:
    found = spectra(of(features(np.arange(1.0, 31) ** -alpha, 200, mean=3.0)))
    assert found["representation_alpha"] == pytest.approx(alpha, abs=1e-6)
    assert found["representation_alpha_fit"] == pytest.approx(1)
    centred = spectra(of(features(np.arange(1.0, 31) ** -alpha, 200)))
    p = np.arange(1.0, 31) ** (-alpha / 2)
    p /= p.sum()
    assert centred["representation_rankme"] == pytest.approx(math.exp(-(p * np.log(p)).sum()), rel=1e-6)


def test_components_hold_their_share_and_few_values_have_no_slope() -> None:
    assert spectra(of(features(np.array([98.0, 1.0, 1.0]), 20)))["representation_components"] == 2
    assert spectra(of(features(np.array([99.5, 0.5]), 20)))["representation_components"] == 1
    assert all(map(math.isnan, slope(np.arange(9.0, 0, -1))))
    constant = spectra(of(np.ones((8, 4))))
    assert constant["representation_rankme"] == pytest.approx(1) and math.isnan(constant["representation_components"])


class Counting(nn.Module):
    """A convolution, a layer for each position, and one of what is left; counts how often it is run."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.each, self.last = nn.Conv2d(3, 4, 2), nn.Linear(2, 5), nn.Linear(5, 2, bias=False)
        self.wide = nn.Parameter(torch.ones(2, 2))
        self.runs = 0

    def forward(self, x_BTD: Tensor) -> Tensor:
        self.runs += 1
        self.conv(x_BTD[:, :3, :, None].expand(-1, -1, -1, 3).reshape(len(x_BTD), 3, 2, 3))
        return self.last(torch.relu(self.each(x_BTD)))


def test_rows_are_positions_within_their_length_and_means_over_pixels() -> None:
    net, lengths = Counting(), torch.tensor([3, 5, 4, 5, 3])
    x = torch.randn(5, 5, 2, generator=torch.Generator().manual_seed(0))
    batches = Examples(x, torch.zeros(5), lengths).batches(2)
    found = moments(net, batches, ["conv.weight", "each.weight", "last.weight", "wide", "conv.bias"])
    assert set(found) == {"conv.weight", "each.weight", "last.weight"} and net.runs == 3
    rows = torch.cat([of_one[:length] for of_one, length in zip(x, lengths, strict=True)]).double()
    assert found["each.weight"].rows == 20
    torch.testing.assert_close(found["each.weight"].gram_DD, rows.T @ rows)
    torch.testing.assert_close(found["each.weight"].sum_D, rows.sum(0))
    hidden = torch.relu(net.each(rows.float())).double()
    torch.testing.assert_close(found["last.weight"].gram_DD, hidden.T @ hidden, rtol=1e-5, atol=1e-5)
    pixels = x[:, :3].mean(2).double()
    torch.testing.assert_close(found["conv.weight"].gram_DD, pixels.T @ pixels, rtol=1e-5, atol=1e-5)
    assert not net.each._forward_pre_hooks


@pytest.mark.parametrize("batch", [16, 16384])
def test_the_features_of_a_run_are_what_its_last_layer_reads(local_store: Store, batch: int) -> None:
    # Batches of more examples than tokens are evaluated by tables, which call few layers, unless these are watched.
    experiment = get_experiment("modular_addition")
    spec = with_settings(experiment.preset("smoke").spec, eval_batch_size=batch)
    net, data = experiment.net(spec), load_examples(spec, local_store)
    weights = {name: w.clone() for name, w in net.state_dict().items()}
    view = CheckpointView(
        now=Decomposed(step=0, weights=weights, factors={}),
        layers=layers(net),
        evaluate=(evaluate := Evaluator(experiment, spec, net, data, torch.device("cpu"))),
        represent=evaluate.represent,
    )
    runs = []
    net.register_forward_hook(lambda *_: runs.append(1))
    found = get_analysis("representations").compute(view)
    assert len(runs) == -(-len(data["val"].targets) // batch), "one pass over the validation examples"
    seen = {layer.name: i for i, layer in enumerate(layers(net))}
    net.decoder = nn.Identity()  # type: ignore[assignment]
    z_ND = net(data["val"].inputs).detach().double().numpy()  # with gradients, so by the layers
    s = np.linalg.svd(z_ND, compute_uv=False)
    p = s[s > 1e-6 * s[0]] / s[s > 1e-6 * s[0]].sum()
    last = found["representation_rankme"][seen["decoder.weight"]]
    assert last == pytest.approx(math.exp(-(p * np.log(p)).sum()), rel=1e-3)
    known = {name for name, i in seen.items() if np.isfinite(found["representation_rankme"][i])}
    block = "transformer_encoder.layers.0."
    assert known == {
        *(block + name for name in ("self_attn.out_proj.weight", "linear1.weight", "linear2.weight")),
        "decoder.weight",
    }
    assert get_analysis("representations").compute(CheckpointView(now=view.now, layers=(), evaluate=evaluate)) == {}
    assert not get_analysis("representations").default
