"""Singular values that are recorded instead of checkpoints."""

import numpy as np
import pytest
import torch
import xarray as xr
from torch import nn

from helpers.recorded import Loop, weights_at
from specdyn.storage.access import objects
from specdyn.storage.places import Store
from specdyn.storage.recordings import recorded_steps
from specdyn.tasks.recording.recorder import Recorder
from specdyn.tasks.recording.spectra import open_spectra


def record(store: Store, until: int, **options: object) -> Recorder:
    loop = Loop()
    with Recorder(str(store), "run", every=10, keep="spectra", **options) as recorder:  # type: ignore[arg-type]
        loop.run(until, lambda step, model, loss: recorder.step(step, model, train_loss=loss))
    return recorder


def test_they_match_numpy_and_no_weights_are_kept(local_store: Store) -> None:
    assert record(local_store, 25).errors == []
    place = local_store.recording("run")
    assert recorded_steps(place.folder) == [] and recorded_steps(place.spectra) == [1, 10, 20, 25]
    found = xr.open_dataset(place.table).load()
    assert found.singular_value.dims == ("layer", "step", "rank")
    for step in (1, 10, 20, 25):
        for name in ("0.weight", "4.weight", "5.weight"):
            s = np.linalg.svd(weights_at(step)[name].double().numpy(), compute_uv=False)
            one = found.sel(layer=name, step=step)
            np.testing.assert_allclose(one.singular_value[: len(s)], s, rtol=0, atol=1.1e-6 * s[0])
            assert np.isnan(one.singular_value[len(s) :]).all()
            p = s / s.sum()
            assert float(one.effective_rank) == pytest.approx(np.exp(-(p * np.log(p)).sum()) / len(s), rel=1e-5)
            assert float(one.effective_rank_ratio) == pytest.approx((s**2).sum() / s[0] ** 2 / len(s), rel=1e-5)
            assert float(one.spectral_norm) == pytest.approx(s[0], rel=1e-6)
            assert float(one.frobenius_norm) == pytest.approx(np.linalg.norm(weights_at(step)[name]), rel=1e-6)


def test_layers_are_chosen_by_their_names(local_store: Store) -> None:
    record(local_store, 10, layers="^[05]")
    assert open_spectra(str(local_store), "run").layer.values.tolist() == ["0.weight", "5.weight"]


def test_they_can_be_read_while_training_goes_on_and_after_it_was_killed(local_store: Store) -> None:
    record(local_store, 25)
    place = local_store.recording("run")
    whole = open_spectra(str(local_store), "run")
    objects.delete(place.table)
    xr.testing.assert_identical(open_spectra(str(local_store), "run"), whole)
    with pytest.raises(ValueError, match="keeps spectra"):
        open_spectra(str(local_store), "another")


def test_a_layer_that_diverged_is_nan_and_noted(local_store: Store) -> None:
    net = nn.Sequential(nn.Linear(4, 3), nn.ConvTranspose2d(2, 3, 2))
    with torch.no_grad():
        net[0].weight[0, 0] = float("inf")
    with Recorder(str(local_store), "run", keep="spectra") as recorder:
        recorder.step(0, net)
    assert "layer 0.weight: 1 of 12 entries are NaN or infinite" in recorder.errors[0]
    found = open_spectra(str(local_store), "run").isel(step=0)
    assert np.isnan(found.sel(layer="0.weight").effective_rank)
    kernels = net[1].weight.detach().double().numpy().swapaxes(0, 1).reshape(3, -1)
    s = np.linalg.svd(kernels, compute_uv=False)
    np.testing.assert_allclose(found.sel(layer="1.weight").singular_value[:3], s, rtol=2e-6)


def test_training_is_the_same_to_the_bit(local_store: Store) -> None:
    bare, recorded = Loop(), Loop()
    torch.manual_seed(3)
    losses = bare.run(20)
    torch.manual_seed(3)
    with Recorder(str(local_store), "run", every=1, keep="spectra") as recorder:
        assert recorded.run(20, lambda step, model, loss: recorder.step(step, model)) == losses
