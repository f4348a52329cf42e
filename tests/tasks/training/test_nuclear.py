"""Decay of the nuclear norm: singular values shrink by one amount, vectors stay, and nothing else decays."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from specdyn.models.experiments.base import get_experiment
from specdyn.models.nets.mlp import Mlp, MlpNet
from specdyn.models.spec.run_spec import RunSpec, hyperparameters
from specdyn.models.spec.settings import with_settings
from specdyn.tasks.training.nuclear import NuclearDecay, shrunk
from specdyn.tasks.training.optimizers import Updater, decayed

SMOKE = get_experiment("modular_addition").preset("smoke").spec


def spec(**settings: object) -> RunSpec:
    return with_settings(SMOKE, **settings)


def with_values(s: list[float], rows: int, columns: int, dtype: torch.dtype = torch.float64) -> tuple[Tensor, ...]:
    """A matrix with these singular values, and its singular vectors."""
    draw = torch.Generator().manual_seed(0)
    left, right = (
        torch.linalg.qr(torch.randn(n, len(s), generator=draw, dtype=torch.float64)).Q for n in (rows, columns)
    )
    return ((left * torch.tensor(s, dtype=torch.float64)) @ right.T).to(dtype), left, right


@pytest.mark.parametrize(("rows", "columns"), [(7, 4), (4, 7), (4, 4)])
def test_every_singular_value_shrinks_by_the_amount_and_small_ones_vanish(rows: int, columns: int) -> None:
    w_MN, left, right = with_values([3.0, 2.0, 0.5, 0.1], rows, columns)
    expected = (left * torch.tensor([2.75, 1.75, 0.25, 0.0], dtype=torch.float64)) @ right.T
    torch.testing.assert_close(shrunk(w_MN, 0.25), expected, rtol=0, atol=1e-8)
    single = shrunk(w_MN.float(), 0.25)
    assert single.dtype == torch.float32
    torch.testing.assert_close(single.double(), expected, rtol=0, atol=1e-6)
    assert not shrunk(w_MN, 4.0).any() and not shrunk(torch.zeros(rows, columns), 0.1).any()


def test_it_is_the_step_down_the_subgradient_where_no_value_is_small() -> None:
    w_MN, left, right = with_values([3.0, 2.0, 0.5], 6, 3)
    torch.testing.assert_close(shrunk(w_MN, 1e-3), w_MN - 1e-3 * left @ right.T, rtol=0, atol=1e-10)


def test_a_convolution_shrinks_as_the_matrix_that_is_analysed() -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 2, bias=False), nn.ConvTranspose2d(3, 5, 2, bias=False))
    before = [net[0].weight.detach().flatten(1), net[1].weight.detach().transpose(0, 1).flatten(1)]
    expected = [torch.linalg.svdvals(w.double()) - 0.01 for w in before]
    NuclearDecay(net, {"0.weight", "1.weight"})(0.01)
    after = [net[0].weight.detach().flatten(1), net[1].weight.detach().transpose(0, 1).flatten(1)]
    for w, s in zip(after, expected, strict=True):
        torch.testing.assert_close(torch.linalg.svdvals(w.double()), s.clamp_min(0), rtol=0, atol=1e-6)


@pytest.mark.parametrize("optimizer", ["adamw", "sgd", "muon"])
def test_only_matrices_decay_by_rate_times_decay_and_l2_is_off(optimizer: str) -> None:
    torch.manual_seed(0)
    net = MlpNet(Mlp(width=6, hidden_layers=2), inputs=4, outputs=3)
    start = {name: p.detach().clone() for name, p in net.named_parameters()}
    x = torch.randn(8, 4)

    def after(**settings: object) -> dict[str, Tensor]:
        net.load_state_dict(start)
        Updater(spec(optimizer=optimizer, **settings), net)(0, 0.01, lambda: [net(x).square().sum()])
        return {name: p.detach().clone() for name, p in net.named_parameters()}

    plain = after(weight_decay=0.0)
    chosen = after(weight_decay=2.0, decay="nuclear", weight_decay_on="hidden")
    for name, w in plain.items():
        s = torch.linalg.svdvals(w.double()) if w.ndim > 1 else torch.empty(0)
        if name in ("layers.0.weight", "layers.1.weight"):
            shrunk_s = torch.linalg.svdvals(chosen[name].double())
            torch.testing.assert_close(shrunk_s, (s - 0.02).clamp_min(0), rtol=0, atol=2e-6)
        else:
            assert torch.equal(chosen[name], w)
    assert all(torch.equal(w, plain[name]) for name, w in after(weight_decay=0.0, decay="nuclear").items())


def test_what_decays_is_chosen_among_matrices_and_the_default_has_the_old_identity() -> None:
    net = MlpNet(Mlp(width=6, hidden_layers=2), inputs=4, outputs=3)
    assert decayed(spec(decay="nuclear"), net) == {"layers.0.weight", "layers.1.weight", "layers.2.weight"}
    assert spec(decay="l2").run_id == SMOKE.run_id != spec(decay="nuclear").run_id
    assert hyperparameters(SMOKE)["decay"] == "l2"
    with pytest.raises(ValueError, match="unknown decay 'l1': known are l2, nuclear"):
        spec(decay="l1")


def test_a_run_that_diverges_says_so_by_its_weights() -> None:
    w_MN = torch.tensor([[1.0, np.nan], [0.0, 1.0]])
    assert shrunk(w_MN, 0.1) is w_MN
