"""What an audit finds by comparing checkpoints: repeats, frozen layers, jumps, and files that are not whole."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from specdyn.storage.foreign.find import find_checkpoints
from specdyn.tasks.foreign.audit import Finding, audit
from specdyn.tasks.foreign.network.layout import Look
from specdyn.tasks.foreign.weights.resolved import ReadSeries

STEPS = tuple(range(0, 100, 10))
SHAPES = {"a.weight": (32, 20), "b.weight": (24, 32), "c.weight": (10, 24)}


def path(seed: int = 0) -> dict[int, dict[str, Tensor]]:
    """A way through weight space whose steps turn by about 0.1."""
    draw = torch.Generator().manual_seed(seed)
    now = {name: torch.randn(shape, generator=draw) for name, shape in SHAPES.items()}
    found = {}
    for step in STEPS:
        found[step] = {name: w.clone() for name, w in now.items()}
        now = {name: w + 0.1 * torch.randn(w.shape, generator=draw) for name, w in now.items()}
    return found


def audited(folder: Path, series: dict[int, dict[str, Tensor]]) -> list[Finding]:
    for step, tensors in series.items():
        save_file({name: w.contiguous() for name, w in tensors.items()}, folder / f"step={step}.safetensors")
    return look(folder)


def look(folder: Path) -> list[Finding]:
    series = ReadSeries(find_checkpoints(str(folder)))
    return list(audit(series, series.layout(Look())))


def test_a_way_without_jumps_has_no_findings(tmp_path: Path) -> None:
    assert audited(tmp_path, path()) == []


def drift(series: dict[int, dict[str, Tensor]]) -> None:
    """All layers grow by a half at each step, as they may early in training."""
    for i, tensors in enumerate(series.values()):
        for name in tensors:
            tensors[name] = tensors[name] * 1.5**i


def test_steady_growth_is_no_jump(tmp_path: Path) -> None:
    series = path()
    drift(series)
    assert audited(tmp_path, series) == []


def of_another_run(series: dict[int, dict[str, Tensor]]) -> None:
    series[50] = path(seed=1)[50]


def scaled(series: dict[int, dict[str, Tensor]]) -> None:
    series[50] = {name: 4 * w for name, w in series[50].items()}


def one_layer(series: dict[int, dict[str, Tensor]]) -> None:
    series[50]["b.weight"] = path(seed=1)[50]["b.weight"]


def two_runs(series: dict[int, dict[str, Tensor]]) -> None:
    other = path(seed=1)
    for step in STEPS[5:]:
        series[step] = other[step]


@pytest.mark.parametrize(
    ("change", "tensor", "what"),
    [
        (of_another_run, "", "a jump of direction: 3 of 3 layers are off the path"),
        (scaled, "", "a jump of norm: 3 of 3 layers are off the path"),
        (one_layer, "b.weight", "a jump of direction: b.weight are off the path"),
        (two_runs, "", "a jump of direction: 3 of 3 layers change more here than before and after"),
    ],
)
def test_a_checkpoint_that_does_not_belong_is_reported(
    change: Callable[[dict[int, dict[str, Tensor]]], None], tensor: str, what: str, tmp_path: Path
) -> None:
    series = path()
    change(series)
    (found,) = audited(tmp_path, series)
    assert (found.severity, found.steps, found.tensor) == ("warning", (50,), tensor)
    assert found.what.startswith(what)


def test_a_layer_that_never_changes_is_noted(tmp_path: Path) -> None:
    series = path()
    for tensors in series.values():
        tensors["a.weight"] = series[0]["a.weight"]
    (found,) = audited(tmp_path, series)
    assert (found.severity, found.what) == ("note", "1 of 3 layers never change: a.weight")


def test_a_shard_that_was_repeated_is_named(tmp_path: Path) -> None:
    """As in a public series, in which two revisions share their first shard alone."""
    series = path()
    series[30] |= {name: series[70][name] for name in ("a.weight", "b.weight")}
    shards = {"a.weight": "model-00001-of-00002.safetensors", "b.weight": "model-00001-of-00002.safetensors"}
    shards |= {"c.weight": "model-00002-of-00002.safetensors"}
    for step, tensors in series.items():
        folder = tmp_path / f"checkpoint-{step}"
        folder.mkdir()
        for shard in set(shards.values()):
            save_file({name: w for name, w in tensors.items() if shards[name] == shard}, folder / shard)
        (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": shards}))
    (repeated,) = look(tmp_path)
    assert (repeated.severity, repeated.steps) == ("warning", (30, 70))
    assert repeated.what == (
        "2 tensors are the same at these steps while others change: a.weight, b.weight; "
        "they are all that model-00001-of-00002.safetensors has"
    )


def test_repeats_of_the_final_weights_are_distinguished(tmp_path: Path) -> None:
    series = path()
    for step in (20, 60):
        series[step] = series[90]
    found = [one for one in audited(tmp_path, series) if "the same weights" in one.what]
    assert [(one.steps, one.what) for one in found] == [
        ((20, 60, 90), "the same weights under different steps: 2 repeat the final weights of step 90")
    ]


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-40])


def emptied(file: Path) -> None:
    file.write_bytes(b"")


def text(file: Path) -> None:
    file.write_text("step 90 failed\n")


def headless(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:60])


@pytest.mark.parametrize("step", [0, 40, 90])
@pytest.mark.parametrize("damage", [cut, emptied, text, headless])
def test_a_file_that_is_not_whole_is_named_and_the_others_are_audited(
    damage: Callable[[Path], None], step: int, tmp_path: Path
) -> None:
    series = path()
    other = next(s for s in (20, 50) if s != step)
    series[other]["b.weight"][0, 0] = float("nan")
    for one, tensors in series.items():
        save_file(tensors, tmp_path / f"step={one}.safetensors")
    damage(tmp_path / f"step={step}.safetensors")
    found = [one for one in look(tmp_path) if one.severity == "error"]
    assert sorted(one.steps for one in found) == sorted([(step,), (other,)])
    (damaged,) = [one for one in found if one.steps == (step,)]
    assert f"step={step}.safetensors: " in damaged.what and "--skip-damaged" in damaged.advice


def test_what_was_chosen_and_skipped_is_reported_once(tmp_path: Path) -> None:
    for step, tensors in path().items():
        content = {"model": {**tensors, "extra": None}, "model_ema": tensors, "step": step}
        torch.save(content, tmp_path / f"step_{step}.pt")
    passed, chosen = look(tmp_path)
    assert (passed.severity, passed.steps) == (chosen.severity, chosen.steps) == ("note", STEPS)
    assert passed.what == "skipped in the file: extra (not a tensor: None)"
    assert chosen.what == "state dicts in this file: model, which is read, and model_ema"
    assert chosen.advice == "choose with --weights or --key"


def test_masks_and_other_constants_are_no_divergence(tmp_path: Path) -> None:
    series = path()
    for tensors in series.values():
        tensors["attn.IGNORE"] = torch.tensor(float("-inf"))
        tensors["attn.causal"] = torch.full((5,), float("-inf")) * torch.tensor([0.0, 1, 1, 1, 1]).nan_to_num()
        tensors["attn.causal"][0] = 0.0
    assert audited(tmp_path, series) == []
    series[50]["scale"] = torch.tensor([1.0, 2.0, float("inf")])
    found = [one for one in audited(tmp_path, series) if one.tensor == "scale"]
    assert [(one.severity, one.steps) for one in found] == [("warning", (50,))]
