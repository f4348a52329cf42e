"""What an audit finds in series with one thing wrong, and that it finds nothing else."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from reference.golden import GOLDEN
from specdyn.storage.foreign.find import find_checkpoints
from specdyn.tasks.foreign.audit import EDGE_MARGIN, Finding, as_plain, audit, edge_ratio
from specdyn.tasks.foreign.network.layout import Look
from specdyn.tasks.foreign.weights.resolved import ReadSeries

STEPS = (0, 10, 20, 30, 40)


def weights(step: int) -> dict[str, Tensor]:
    draw = torch.Generator().manual_seed(step)
    return {"a.weight": torch.randn(32, 20, generator=draw), "b.weight": torch.randn(8, 32, generator=draw)}


def findings(
    folder: Path, steps: tuple[int, ...] = STEPS, change: Callable[[int, dict[str, Tensor]], None] | None = None
) -> list[Finding]:
    for step in steps:
        tensors = weights(step)
        if change:
            change(step, tensors)
        save_file({name: w.contiguous() for name, w in tensors.items()}, folder / f"step={step}.safetensors")
        os.utime(folder / f"step={step}.safetensors", (1e9 + step, 1e9 + step))
    series = ReadSeries(find_checkpoints(str(folder)))
    return list(audit(series, series.layout(Look())))


def told(found: list[Finding]) -> list[tuple[str, tuple[int, ...], str]]:
    return [(f.severity, f.steps, f.tensor) for f in found]


def test_a_clean_series_has_no_findings(tmp_path: Path) -> None:
    assert findings(tmp_path) == []


def test_a_single_checkpoint_has_no_findings(tmp_path: Path) -> None:
    assert findings(tmp_path, (0,)) == []


def test_the_same_content_under_several_steps_is_reported(tmp_path: Path) -> None:
    def repeat(step: int, tensors: dict[str, Tensor]) -> None:
        tensors.update(weights(min(step, 20)))

    found = findings(tmp_path, change=repeat)
    assert told(found) == [("warning", (20, 30, 40), "")]
    assert found[0].what == "the same weights under different steps: 2 repeat the final weights of step 40"


def test_checkpoints_that_differ_in_a_bias_are_no_duplicates(tmp_path: Path) -> None:
    def freeze(step: int, tensors: dict[str, Tensor]) -> None:
        tensors.update(weights(0), bias=torch.full((3,), float(step)))

    (found,) = findings(tmp_path, change=freeze)
    assert told([found]) == [("note", (), "")]
    assert found.what == "2 of 2 layers never change: a.weight, b.weight"


def test_a_second_name_of_a_step_is_noted(tmp_path: Path) -> None:
    findings(tmp_path)
    (tmp_path / "step=20-v1.safetensors").write_bytes((tmp_path / "step=20.safetensors").read_bytes())
    os.utime(tmp_path / "step=20-v1.safetensors", (1e9 + 20, 1e9 + 20))
    series = ReadSeries(find_checkpoints(str(tmp_path)))
    assert told(list(audit(series, series.layout(Look())))) == [("note", (), "")]


def test_names_that_a_wrapper_changed_are_the_same_layers(tmp_path: Path) -> None:
    def compiled(step: int, tensors: dict[str, Tensor]) -> None:
        if step == 40:
            for name in list(tensors):
                tensors[f"_orig_mod.{name}"] = tensors.pop(name)

    assert findings(tmp_path, change=compiled) == []


def test_other_tensors_are_looked_at_too(tmp_path: Path) -> None:
    def change(step: int, tensors: dict[str, Tensor]) -> None:
        tensors["ids"] = torch.ones(2, dtype=torch.uint16)
        tensors["mask"] = torch.full((4,), float("-inf"))
        tensors["bias"] = torch.full((3,), float("nan") if step == 10 else 0.0)
        if step == 20:
            del tensors["bias"]

    found = findings(tmp_path, change=change)
    assert told(found) == [("warning", (10,), "bias"), ("note", (20,), "")]
    assert found[1].what.endswith("exist at only one of the steps: bias")


def test_nan_and_infinity_are_errors_that_name_the_tensor(tmp_path: Path) -> None:
    def spoil(step: int, tensors: dict[str, Tensor]) -> None:
        if step == 30:
            tensors["b.weight"][0, :2] = torch.tensor([float("nan"), float("inf")])

    found = findings(tmp_path, change=spoil)
    assert told(found) == [("error", (30,), "b.weight")]
    assert found[0].what == "2 of 256 entries are NaN or infinite"


def test_another_shape_and_layers_that_come_and_go_are_reported_once(tmp_path: Path) -> None:
    def change(step: int, tensors: dict[str, Tensor]) -> None:
        if step >= 30:
            tensors["a.weight"] = torch.randn(20, 32, generator=torch.Generator().manual_seed(step))
        if step in (10, 20):
            del tensors["b.weight"]

    found = findings(tmp_path, change=change)
    assert told(found) == [("warning", (30, 40), "a.weight"), ("warning", (10, 20), "b.weight")]
    assert found[0].what == "has shape (20, 32), expected (32, 20) as at 3 other checkpoints"
    assert found[1].what == "is missing, but exists at 3 other checkpoints"


def test_a_change_of_precision_is_noted(tmp_path: Path) -> None:
    def halve(step: int, tensors: dict[str, Tensor]) -> None:
        if step == 40:
            tensors["a.weight"] = tensors["a.weight"].half()

    found = findings(tmp_path, change=halve)
    assert told(found) == [("note", (40,), "a.weight")]
    assert found[0].what == "stored as torch.float16, torch.float32 at step 0"


@pytest.mark.parametrize(
    ("steps", "missing"),
    [
        ((0, 10, 20, 40, 50, 80, 90), (30, 60, 70)),
        ((0, 10, 20, 40, 70, 80, 90), (30, 50, 60)),
        ((0, 10, 20, 30, 60), None),  # the last gap may be meant
        ((*range(10), *range(10, 60, 10)), None),  # the grid widens for good
        ((*range(10), 10, 20, 40, 50, 60), (30,)),
        ((0, 10, 20, 30, 40, 45), None),  # the end of training
        ((0, 1, 2, 4, 8, 32, 64), (16,)),
        ((1, 10, 100, 10_000, 100_000, 1_000_000), (1000,)),
        ((0, 1, 2, 4, 8, 30, 64), None),
        ((0, 1, 2, 4, 8, 16, 32), None),
        ((0, 2, 5, 10, 20, 30, 40, 50, 60), None),  # early ones lie closer
        ((0, 1000), None),
    ],
)
def test_holes_in_a_regular_grid_are_reported(
    steps: tuple[int, ...], missing: tuple[int, ...] | None, tmp_path: Path
) -> None:
    found = findings(tmp_path, steps)
    assert told(found) == ([("warning", missing, "")] if missing else [])


def test_checkpoints_written_in_another_order_are_noted(tmp_path: Path) -> None:
    findings(tmp_path)
    os.utime(tmp_path / "step=20.safetensors", (9e8, 9e8))
    series = ReadSeries(find_checkpoints(str(tmp_path)))
    assert told(list(audit(series, series.layout(Look())))) == [("note", (20,), "")]


@pytest.mark.parametrize("name", GOLDEN)
def test_a_trained_first_checkpoint_is_reported_and_an_initialised_one_is_not(name: str, tmp_path: Path) -> None:
    golden = GOLDEN[name]
    for first, expected in ((golden.steps[0], False), (golden.steps[-1], True)):
        folder = tmp_path / str(first)
        folder.mkdir()
        save_file(golden.weights(first), folder / "step=0.safetensors")
        series = ReadSeries(find_checkpoints(str(folder)))
        found = audit(series, series.layout(Look()))
        assert [f.what[:34] for f in found] == (["the first checkpoint looks trained"] if expected else [])


INITIALISATIONS = {
    "torch": lambda w: nn.init.kaiming_uniform_(w, a=5**0.5),
    "kaiming": nn.init.kaiming_normal_,
    "xavier": nn.init.xavier_uniform_,
    "orthogonal": nn.init.orthogonal_,
    "normal": lambda w: nn.init.normal_(w, std=0.02),
    "truncated": lambda w: nn.init.trunc_normal_(w, std=0.02),
}


@pytest.mark.parametrize("shape", [(16, 16), (16, 300), (64, 64), (300, 40)])
@pytest.mark.parametrize("name", INITIALISATIONS)
def test_no_usual_initialisation_looks_trained(name: str, shape: tuple[int, int]) -> None:
    for seed in range(5):
        torch.manual_seed(seed)
        (ratio,) = edge_ratio(INITIALISATIONS[name](torch.empty(shape)))
        assert 0 < ratio < EDGE_MARGIN


def test_the_ratio_is_that_of_the_largest_singular_value() -> None:
    w = torch.randn(40, 60, generator=torch.Generator().manual_seed(0))
    w = w + 0.5 * torch.outer(torch.ones(40), torch.ones(60))
    expected = float(torch.linalg.svdvals(w.double())[0]) / (float(w.std()) * (40**0.5 + 60**0.5))
    assert edge_ratio(w)[0] == pytest.approx(expected, rel=1e-4)
    for size in (2.0**-120, 2.0**100):
        assert edge_ratio(size * w) == edge_ratio(w)
    assert edge_ratio(torch.zeros(20, 20)) == []
    assert edge_ratio(torch.randn(15, 100)) == []


def test_layers_that_float32_cannot_hold_are_reported_and_masks_are_not(tmp_path: Path) -> None:
    def grow(step: int, tensors: dict[str, Tensor]) -> None:
        tensors["b.weight"] = tensors["b.weight"].double() * (1e300 if step == 20 else 1)
        tensors["c.mask"] = torch.full((4,), -torch.finfo(torch.float64).max, dtype=torch.float64)

    (found,) = findings(tmp_path, change=grow)
    assert told([found]) == [("error", (20,), "b.weight")]
    assert found.what.startswith("tensor 'b.weight' is out of range: its largest entry is ")


def test_a_finding_survives_json(tmp_path: Path) -> None:
    found = findings(tmp_path, (0, 10, 20, 40, 50))
    (plain,) = as_plain(found)
    assert Finding(**{**plain, "steps": tuple(plain["steps"])}) == found[0]  # type: ignore[arg-type]
    assert found[0].cells[:3] == ("warning", "30", "-")


def test_buffers_and_integers_are_skipped_with_a_reason(tmp_path: Path) -> None:
    tensors = {"w": torch.ones(3, 3), "attn.bias": torch.ones(1, 1, 4, 4), "ids": torch.ones(2, 2, dtype=torch.int64)}
    save_file(
        {**tensors, "up.tconv.weight": torch.ones(3, 5, 2, 2), "bias": torch.ones(3)}, tmp_path / "step=0.safetensors"
    )
    body = ReadSeries(find_checkpoints(str(tmp_path))).layout(Look())
    assert {e.parameter: e.skipped or e.way for e in body.entries} == {
        "attn.bias": "a buffer by its name, which is not trained",
        "ids": "of type int64",
        "up.tconv.weight": "axes swapped, then flattened to (out, in * kernel): transposed by its name",
        "w": "as it is",
    }


def test_fused_projections_are_compared_head_by_head_where_heads_are_given(tmp_path: Path) -> None:
    golden = GOLDEN["modular_addition"]
    save_file(golden.weights(0), tmp_path / "step=0.safetensors")
    series = ReadSeries(find_checkpoints(str(tmp_path)))
    body = series.layout(Look(heads=4))
    fused = "transformer_encoder.layers.0.self_attn.in_proj_weight"
    assert f"{fused}[value] -> transformer_encoder.layers.0.self_attn.out_proj.weight" in [p.name for p in body.pairs]
    names = [p.name for p in body.attention]
    assert names[0] == f"{fused}[key by head] -> {fused}[query by head]" and len(names) == 2
    assert [p.reader.heads for p in body.attention] == [4, 4]
    with pytest.raises(ValueError, match="heads=5 is not allowed: expected a divisor of"):
        series.layout(Look(heads=5))
