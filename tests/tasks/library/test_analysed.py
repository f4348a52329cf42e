"""Models and checkpoints analysed in memory: what they are, and that nothing is changed or written."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
import xarray as xr
from safetensors.torch import save_file
from torch import nn
from torch.nn.utils import prune

import specdyn as sd
from helpers.hugging_face import CONFIGS
from specdyn.storage.access.objects import StoreError
from specdyn.storage.places import Store
from specdyn.tasks.plan.gathering import gather
from specdyn.tasks.plan.here import ThisProcess
from specdyn.tasks.plan.series import SeriesStudy, analyse_series, choose
from specdyn.tasks.plan.sources import look

CHEAP = ("spectrum", "effective_rank")


def model(kind: str) -> Any:
    config, settings = CONFIGS[kind]
    torch.manual_seed(0)
    return getattr(transformers, kind)(getattr(transformers, config)(**settings))


def singular(tree: xr.DataTree, layer: str, run: int = 0, step: int = -1) -> np.ndarray:
    values = tree["layers"].to_dataset()["singular_value"].sel(layer=layer).isel(run=run, step=step).values
    return values[~np.isnan(values)]


def numpys(w: torch.Tensor) -> np.ndarray:
    return np.linalg.svd(w.detach().double().numpy(), compute_uv=False)


def test_singular_values_of_a_network_match_numpy() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(3, 8, 3),
        nn.ConvTranspose2d(8, 8, 3),
        nn.Conv2d(8, 6, 3, groups=2),
        nn.Flatten(),
        nn.Linear(54, 10, bias=False),
    )
    tree = sd.analyse(net, CHEAP)
    assert tree["layers"].to_dataset()["layer"].values.tolist() == [
        "0.weight", "1.weight", "2.weight[group 1]", "2.weight[group 2]", "4.weight",
    ]  # fmt: skip
    np.testing.assert_allclose(singular(tree, "0.weight"), numpys(net[0].weight.flatten(1)), rtol=1e-5)
    swapped = net[1].weight.transpose(0, 1).flatten(1)
    np.testing.assert_allclose(singular(tree, "1.weight"), numpys(swapped), rtol=1e-5)
    groups = net[2].weight.flatten(1).chunk(2)
    for i, group in enumerate(groups):
        np.testing.assert_allclose(singular(tree, f"2.weight[group {i + 1}]"), numpys(group), rtol=1e-5)
    np.testing.assert_allclose(singular(tree, "4.weight"), numpys(net[4].weight), rtol=1e-5)


def test_a_model_of_transformers_has_the_pairs_of_its_family_and_tied_weights_once() -> None:
    net = model("GPT2LMHeadModel")
    tree = sd.analyse(net, analyses=["alignment"])
    assert '"gpt2"' in tree.attrs["families"]
    pairs, layers = tree["pairs"].to_dataset(), tree["attention"].to_dataset()
    assert any("c_attn" in name for name in layers["attention"].values)
    assert np.isfinite(pairs["alignment_score"].values).any()
    names = sd.table(net).index
    assert ("lm_head.weight" in names) != ("transformer.wte.weight" in names), "one tensor with two names is one layer"


def test_what_is_measured_in_memory_is_what_is_stored(tmp_path: Path) -> None:
    net = model("LlamaForCausalLM")
    for step in (0, 10, 20):
        with torch.no_grad():
            for p in net.parameters():
                p.mul_(1.1).add_(0.01 * torch.randn(p.shape, generator=torch.Generator().manual_seed(step)))
        net.save_pretrained(tmp_path / "run" / f"checkpoint-{step}")
    source, analyses, store = look(str(tmp_path / "run")), choose(None), Store(str(tmp_path / "store"))
    study = SeriesStudy(name="stored", sources=(source,), analyses=analyses, audited=False)
    analyse_series(ThisProcess(), lambda _: None, source, analyses, store)
    study.record(store)
    stored = sd.open(gather(study, store, report=False)[0].url)
    held = sd.analyse(tmp_path / "run")
    for node in stored.subtree:
        if node.path in ("/", "/runs"):
            continue
        ours = held[node.path].to_dataset(inherit=False)
        for name, variable in node.to_dataset(inherit=False).variables.items():
            if name not in ("run", "series"):
                # Factors that were stored lie in another order in memory, which products round by.
                xr.testing.assert_allclose(variable.load(), ours.variables[name], rtol=1e-4, atol=1e-5)
                assert variable.attrs == ours.variables[name].attrs


def test_nothing_is_changed_drawn_or_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    net = nn.Sequential(nn.Linear(8, 8), nn.Dropout(), nn.Linear(8, 4))
    net.train()
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    settings = torch.get_num_threads(), torch.get_deterministic_debug_mode()
    state, numpys_own = torch.get_rng_state(), np.random.get_state()[1].copy()
    sd.analyse(net)
    assert torch.equal(state, torch.get_rng_state()) and (numpys_own == np.random.get_state()[1]).all()
    assert (torch.get_num_threads(), torch.get_deterministic_debug_mode()) == settings
    assert net.training and all(torch.equal(before[name], tensor) for name, tensor in net.state_dict().items())
    assert not list(tmp_path.iterdir())


def test_a_buffer_is_no_layer_and_masked_weights_are_multiplied() -> None:
    class Graph(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(6, 5)
            self.register_buffer("adjacency", torch.eye(6))

    net = Graph()
    prune.random_unstructured(net.layer, "weight", amount=0.5)
    tree = sd.analyse(net, CHEAP)
    assert tree["layers"].to_dataset()["layer"].values.tolist() == ["layer.weight"]
    np.testing.assert_allclose(singular(tree, "layer.weight"), numpys(net.layer.weight), rtol=1e-5, atol=1e-7)


def test_heads_of_attention_modules_need_no_option() -> None:
    net = nn.TransformerEncoderLayer(16, 4, 32)
    tree = sd.analyse(net, ["alignment"])
    assert tree["attention"].to_dataset().sizes["head"] == 4


def test_several_are_runs_by_name_or_by_place(tmp_path: Path) -> None:
    a, b = nn.Linear(4, 4, bias=False), nn.Linear(4, 4, bias=False)
    named = sd.analyse({"before": a, "after": b}, CHEAP)
    assert named["layers"].to_dataset()["run"].values.tolist() == ["before", "after"]
    np.testing.assert_allclose(singular(named, "weight", run=1), numpys(b.weight), rtol=1e-5)
    listed = sd.analyse([a, b], CHEAP)
    assert listed["layers"].to_dataset()["run"].values.tolist() == ["Linear-1", "Linear-2"]
    state = sd.analyse(a.state_dict(), CHEAP)
    np.testing.assert_array_equal(singular(state, "weight"), singular(named, "weight"))


def test_a_pattern_is_a_run_for_each_folder_with_its_own_steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for run, steps in (("a", (10, 20, 30)), ("b", (10, 20))):
        for step in steps:
            folder = tmp_path / "runs" / run / f"checkpoint-{step}"
            folder.mkdir(parents=True)
            save_file({"up.weight": torch.full((3, 2), float(step))}, folder / "model.safetensors")
        (tmp_path / "runs" / run / "logs").mkdir()
    monkeypatch.chdir(tmp_path)
    layers = sd.analyse("runs/*/checkpoint-*", CHEAP)["layers"].to_dataset()
    assert layers["run"].values.tolist() == ["a", "b"] and layers["step"].values.tolist() == [10, 20, 30]
    largest = layers["singular_value"].isel(rank=0, layer=0)
    np.testing.assert_allclose(largest[0], np.sqrt(6) * np.array([10, 20, 30]), rtol=1e-6)
    np.testing.assert_allclose(largest[1], np.sqrt(6) * np.array([10, 20, np.nan]), rtol=1e-6)
    whole = sd.analyse("runs/*", CHEAP)["layers"].to_dataset()
    xr.testing.assert_equal(whole.drop_vars("source", errors="ignore"), layers.drop_vars("source", errors="ignore"))
    some = sd.analyse("runs/a/checkpoint-[12]0", CHEAP)["layers"].to_dataset()
    assert some["step"].values.tolist() == [10, 20]
    one = sd.analyse(os.path.join("runs", "a", "checkpoint-20"), CHEAP)["layers"].to_dataset()
    assert one["step"].values.tolist() == [20]


@pytest.mark.parametrize(
    ("what", "error", "says"),
    [
        (3, TypeError, "what='int' is not allowed: expected a model, a state dict"),
        ([], ValueError, "at least one model or place"),
        ("nowhere/checkpoints", StoreError, "no checkpoints there"),
        (nn.Linear(3, 3, device="meta"), ValueError, "has no values: load the model's weights first"),
        (nn.ReLU(), ValueError, "no tensor of two or more rows and columns"),
    ],
)
def test_what_cannot_be_analysed_is_refused_with_the_reason(
    what: Any, error: type[Exception], says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(error, match=says):
        sd.analyse(what, CHEAP)


def test_an_analysis_that_needs_data_and_heads_without_attention_are_refused() -> None:
    with pytest.raises(ValueError, match="performance"):
        sd.analyse(nn.Linear(3, 3), ["performance"])
    with pytest.raises(ValueError, match="heads=2, but no projections"):
        sd.analyse(nn.Linear(4, 4), CHEAP, heads=2)


@pytest.mark.parametrize("scale", [1e-30, 1e30])
def test_weights_whose_squares_leave_float32_are_analysed_all_the_same(scale: float) -> None:
    net, scaled = nn.Linear(64, 60, bias=False), nn.Linear(64, 60, bias=False)
    with torch.no_grad():
        scaled.weight.copy_(net.weight * scale)
    plain, far = sd.analyse(net)["layers"].to_dataset(), sd.analyse(scaled)["layers"].to_dataset()
    for name in ("stable_rank", "entropy", "gini", "power_law_alpha", "mp_soft_rank"):
        np.testing.assert_allclose(far[name], plain[name], rtol=1e-3, err_msg=name)
    np.testing.assert_allclose(far["power_law_start"] / scale / scale, plain["power_law_start"], rtol=1e-3)
