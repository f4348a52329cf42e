"""Lines between networks of one's own: recorded runs, in closed form."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import specdyn as sd

DRAW = torch.Generator().manual_seed(0)
X, Y = torch.randn(40, 5, generator=DRAW), torch.randn(40, 3, generator=DRAW)


class Twice(nn.Module):
    """A decoder with the encoder's weights."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder, self.decoder = nn.Linear(5, 4, bias=False), nn.Linear(5, 4, bias=False)
        self.decoder.weight = self.encoder.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.encoder(x) @ self.decoder.weight


def linear() -> nn.Module:
    return nn.Linear(5, 3, bias=False)


def losses(net: nn.Module) -> Mapping[str, float]:
    assert not net.training and not torch.is_grad_enabled()
    squares = (net(X) - Y).square()
    return {"train_loss": float(squares[:30].mean()), "val_loss": float(squares[30:].mean()), "size": 1.0}


def recorded(folder: Path, name: str, net: nn.Module) -> str:
    with sd.Recorder(str(folder), name, every=1) as recorder:
        recorder.step(0, net)
        with torch.no_grad():
            for parameter in net.parameters():
                parameter.mul_(2)
        recorder.step(1, net)
    assert recorder.errors == []
    return str(folder / "recorded" / name)


def test_a_quadratic_loss_is_a_parabola_between_recorded_runs(tmp_path: Path) -> None:
    nets = [linear() for _ in range(3)]
    places = [recorded(tmp_path, f"run-{i}", net) for i, net in enumerate(nets)]
    tree = sd.connect(places, linear, losses, progress=False)
    assert tree["pair"].values.tolist() == ["run-0 - run-1", "run-0 - run-2", "run-1 - run-2"]
    data = tree.to_dataset()
    for pair, (a, b) in zip(data["pair"].values, ((0, 1), (0, 2), (1, 2)), strict=True):
        w, v = (nets[i].weight.detach().double() for i in (a, b))  # type: ignore[union-attr, operator]
        one = data.sel(pair=pair)
        for split, part in (("train", slice(0, 30)), ("val", slice(30, 40))):
            curvature = float((X[part].double() @ (w - v).T).square().mean())
            ends = [float((X[part].double() @ m.T - Y[part].double()).square().mean()) for m in (w, v)]
            alpha = np.linspace(0, 1, 11)
            expected = (1 - alpha) * ends[0] + alpha * ends[1] - curvature * alpha * (1 - alpha)
            np.testing.assert_allclose(one["loss"].sel(split=split), expected, rtol=1e-5)
            # The inner points nearest to the ends are the least below the straight line.
            np.testing.assert_allclose(one["barrier_loss"].sel(split=split), -0.09 * curvature, rtol=1e-4)
        np.testing.assert_allclose(one["distance"], float((w - v).norm()), rtol=1e-6)
        spectrum = torch.linalg.svdvals((w + v) / 2)
        np.testing.assert_allclose(one["singular_value"].sel(alpha=0.5, layer="weight"), spectrum, rtol=1e-5)
    assert data["size"].dims == ("pair", "alpha")
    assert data["kind"].values.tolist() == ["across"] * 3


def test_a_step_and_tied_weights(tmp_path: Path) -> None:
    net, other = Twice(), Twice()
    before = net.encoder.weight.detach().clone()
    place = recorded(tmp_path, "tied", net)
    apart = []
    for step, weight in ((0, before), (None, 2 * before)):
        tree = sd.connect({"a": place, "b": other}, Twice, lambda _: {"n": 0.0}, step=step, points=3, progress=False)
        assert tree["layer"].values.tolist() == ["encoder.weight"]
        apart.append((tree["distance"].item(), (weight - other.encoder.weight).norm().item()))
    np.testing.assert_allclose(*zip(*apart, strict=True), rtol=1e-6)


def test_what_does_not_fit_is_refused_before_anything_is_evaluated(tmp_path: Path) -> None:
    def never(_: nn.Module) -> Mapping[str, float]:
        raise AssertionError

    place, normalised = recorded(tmp_path, "run", linear()), nn.Sequential(nn.Linear(5, 3), nn.BatchNorm1d(3))
    with pytest.raises(ValueError, match=r"runs=.*two or more"):
        sd.connect([place, place], linear, never)
    with pytest.raises(ValueError, match=r"weights of run=.*missing \['bias'\].*expected those of the network"):
        sd.connect([place, linear()], lambda: nn.Linear(5, 3), never)
    with pytest.raises(ValueError, match=r"'weight' of run=\(3, 5\) is not allowed: expected the shape \(3, 6\)"):
        sd.connect([place, linear()], lambda: nn.Linear(6, 3, bias=False), never)
    with pytest.raises(ValueError, match="step=7 is not allowed: expected one of 0, 1 of"):
        sd.connect([place, linear()], linear, never, step=7)
    with pytest.raises(ValueError, match="inputs=None is not allowed: expected batches of training inputs"):
        sd.connect([normalised, normalised], lambda: normalised, never)


def test_statistics_of_batch_norm_are_estimated_at_every_point() -> None:
    def net() -> nn.Module:
        return nn.Sequential(nn.Linear(5, 3), nn.BatchNorm1d(3))

    def largest(of: nn.Module) -> Mapping[str, float]:
        outputs = of(X)
        return {"mean": float(outputs.mean(0).abs().max()), "spread": float(outputs.var(0).mean())}

    models = {"a": net(), "b": net()}
    for model in models.values():
        model[1].running_mean.fill_(7.0)  # type: ignore[index, union-attr, operator]
    tree = sd.connect(models, net, largest, inputs=[X], progress=False)
    np.testing.assert_allclose(tree["mean"], 0, atol=1e-5)
    np.testing.assert_allclose(tree["spread"], 1, rtol=1e-3)
    blended = sd.connect(models, net, largest, inputs=(), progress=False)
    assert (blended["mean"] > 5).all()
