"""`--weights ema` from the file to the cube, for the ways in which training programs keep a running mean."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from helpers.trainers import by_lightning
from specdyn.flows.parameters import AnalyseParameters
from specdyn.flows.studies import series_from
from specdyn.storage.places import Store
from specdyn.storage.query import open_results
from specdyn.tasks.plan.gathering import gather
from specdyn.tasks.plan.here import ThisProcess
from specdyn.tasks.plan.series import analyse_series

Weights = dict[str, Tensor]
Kept = dict[int, tuple[Weights, Weights]]
"""By step, the weights and their running mean."""


def trained(steps: tuple[int, ...] = (2, 4)) -> tuple[Kept, dict[int, Weights]]:
    """A network whose weights torch averages, and by step what `AveragedModel` itself would save."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3))
    mean = torch.optim.swa_utils.AveragedModel(net, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(0.5))
    optimizer = torch.optim.SGD(net.parameters(), lr=0.5)
    kept: Kept = {}
    whole: dict[int, Weights] = {}
    for step in range(1, max(steps) + 1):
        optimizer.zero_grad()
        net(torch.randn(16, 6)).square().mean().backward()
        optimizer.step()
        mean.update_parameters(net)
        if step in steps:
            raw, averaged = ({n: w.clone() for n, w in one.state_dict().items()} for one in (net, mean.module))
            kept[step] = raw, averaged
            whole[step] = {n: w.clone() for n, w in mean.state_dict().items()}
    return kept, whole


def of_nanogpt(folder: Path) -> Kept:
    kept, _ = trained()
    for step, (raw, mean) in kept.items():
        torch.save({"model": raw, "ema": mean, "iter_num": step, "config": {"lr": 1.0}}, folder / f"ckpt_{step}.pt")
    return kept


def of_timm(folder: Path) -> Kept:
    kept, _ = trained()
    for step, (raw, mean) in kept.items():
        content = {"epoch": step, "arch": "net", "state_dict": raw, "state_dict_ema": mean, "optimizer": {"state": {}}}
        torch.save(content, folder / f"checkpoint-{step}.pth.tar")
    return kept


def of_torch(folder: Path) -> Kept:
    kept, whole = trained()
    for step, (raw, _) in kept.items():
        assert "n_averaged" in whole[step]
        torch.save({"model": raw, "averaged_model": whole[step]}, folder / f"step_{step}.pt")
    return kept


def of_diffusers(folder: Path) -> Kept:
    kept, _ = trained()
    for step, sets in kept.items():
        for part, weights in zip(("unet", "unet_ema"), sets, strict=True):
            (folder / f"checkpoint-{step}" / part).mkdir(parents=True)
            save_file(weights, folder / f"checkpoint-{step}" / part / "diffusion_pytorch_model.safetensors")
    return kept


def in_files_of_their_own(folder: Path) -> Kept:
    kept, _ = trained()
    for step, sets in kept.items():
        for name, weights in zip(("model", "ema_0.5_"), sets, strict=True):
            torch.save(weights, folder / f"{name}{step:06d}.pt")
    return kept


def in_one_file(folder: Path) -> Kept:
    kept, _ = trained()
    for step, (raw, mean) in kept.items():
        both = {**{f"model.{n}": w for n, w in raw.items()}, **{f"model_ema.{n}": w for n, w in mean.items()}}
        torch.save({"state_dict": both, "global_step": step}, folder / f"step={step}.ckpt")
    return kept


def of_lightning(folder: Path) -> Kept:
    found: Kept = {}
    for path in by_lightning(folder / "logs", averaged=True).glob("*.ckpt"):
        content = torch.load(path, weights_only=False)
        path.rename(folder / path.name)
        found[content["global_step"]] = content["current_model_state"], content["state_dict"]
    return found


def values(folder: Path, store: Store, **options: Any) -> Any:
    """The cube of the largest singular values."""
    asked = AnalyseParameters(sources=[str(folder)], store=store.url, analyses=["spectrum"], audited=False, **options)
    study = series_from(asked)
    analyse_series(ThisProcess(), lambda _: None, study.sources[0], ("spectrum",), store)
    gather(study, store, report=False)
    layers = open_results(store.cube(study.name))["layers"].to_dataset()
    return layers.singular_value.isel(run=0).load()


@pytest.mark.parametrize(
    "written", [of_nanogpt, of_timm, of_torch, of_diffusers, in_files_of_their_own, in_one_file, of_lightning]
)
def test_the_set_that_is_asked_for_is_decomposed(
    written: Callable[[Path], Kept], tmp_path: Path, local_store: Store
) -> None:
    (folder := tmp_path / "series").mkdir()
    kept = written(folder)
    assert len(kept) > 1
    for options, which in (({}, 0), ({"weights": "raw"}, 0), ({"weights": "ema"}, 1)):
        found = values(folder, local_store, **options)
        assert sorted(found.step.values.tolist()) == sorted(kept)
        for step, sets in kept.items():
            for name, w in sets[which].items():
                if w.ndim == 2:
                    s = np.linalg.svd(w.double().numpy(), compute_uv=False)
                    layer = name.removeprefix("net.") if name not in found.layer else name
                    np.testing.assert_allclose(found.sel(layer=layer, step=step).values[: len(s)], s, rtol=1e-5)
    raw, mean = kept[max(kept)]
    assert not torch.equal(*(next(w for w in one.values() if w.ndim == 2) for one in (raw, mean)))
