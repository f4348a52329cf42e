"""Low-rank adapters: what they add to the weights, by the definitions of their makers."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from specdyn.storage.checkpoints import DamagedCheckpoint
from specdyn.storage.foreign.find import find_checkpoints
from specdyn.storage.foreign.found import ForeignCheckpoint

PREFIX = "base_model.model.model.layers.0."


def g(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)))


def adapter(folder: Path, tensors: dict[str, Tensor], config: dict[str, Any] | None) -> ForeignCheckpoint:
    place = folder / "checkpoint-50"
    place.mkdir(exist_ok=True)
    save_file(tensors, place / "adapter_model.safetensors")
    torch.save({"lr": 1}, place / "optimizer.pt")
    if config is not None:
        (place / "adapter_config.json").write_text(json.dumps(config))
    (found,) = find_checkpoints(str(folder)).checkpoints
    assert found.step == 50
    return found


@pytest.mark.parametrize(
    ("config", "scaling"),
    [
        ({"r": 4, "lora_alpha": 16}, 4.0),
        ({"r": 4, "lora_alpha": 16, "use_rslora": True}, 16 / math.sqrt(4)),
        ({"r": 8, "lora_alpha": 16, "rank_pattern": {"q_proj": 4}}, 4.0),
        ({"r": 4, "lora_alpha": 16, "alpha_pattern": {"self_attn.q_proj": 2}}, 0.5),
        ({"r": 4, "lora_alpha": 16, "alpha_pattern": {"proj": 2}}, 4.0),
    ],
)
def test_a_product_has_the_scaling_of_its_module(config: dict[str, Any], scaling: float, tmp_path: Path) -> None:
    a, b = g(4, 6), g(10, 4)
    name = PREFIX + "self_attn.q_proj"
    weights = adapter(tmp_path, {f"{name}.lora_A.weight": a, f"{name}.lora_B.weight": b}, config).weights()
    assert dict(weights.shapes) == {"model.layers.0.self_attn.q_proj.weight": (10, 6)}
    torch.testing.assert_close(weights["model.layers.0.self_attn.q_proj.weight"], scaling * b @ a)


def test_embeddings_convolutions_and_other_tensors(tmp_path: Path) -> None:
    a, b, e, f = g(2, 3, 3, 3), g(8, 2, 1, 1), g(2, 50), g(6, 2)
    norm = g(6)
    weights = adapter(
        tmp_path,
        {
            "base_model.model.conv.lora_A.default.weight": a,
            "base_model.model.conv.lora_B.default.weight": b,
            "base_model.model.conv.lora_magnitude_vector": g(8),
            "base_model.model.embed.lora_embedding_A": e,
            "base_model.model.embed.lora_embedding_B": f,
            "base_model.model.norm.weight": norm,
        },
        {"r": 2, "lora_alpha": 2},
    ).weights()
    # A convolution by A, then one of 1 x 1 by B, is one convolution by their product.
    x = g(1, 3, 7, 7)
    both = torch.nn.functional.conv2d(torch.nn.functional.conv2d(x, a), b)
    torch.testing.assert_close(torch.nn.functional.conv2d(x, weights["conv.weight"]), both, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(weights["embed.weight"], (f @ e).T)
    assert torch.equal(weights["base_model.model.norm.weight"], norm)
    assert list(weights.passed_over) == ["base_model.model.conv.lora_magnitude_vector"]


def test_weights_of_layers_that_are_kept_turned_come_turned(tmp_path: Path) -> None:
    a, b = g(2, 6), g(10, 2)
    tensors = {"base_model.model.h.0.c_attn.lora_A.weight": a, "base_model.model.h.0.c_attn.lora_B.weight": b}
    weights = adapter(tmp_path, tensors, {"r": 2, "lora_alpha": 2, "fan_in_fan_out": True}).weights()
    torch.testing.assert_close(weights["h.0.c_attn.weight"], (b @ a).T)


@pytest.mark.parametrize(
    ("config", "b", "why"),
    [
        (None, g(10, 4), "adapter_config.json is missing, which has the scaling"),
        ({"r": 4}, g(10, 4), "expected numbers r and lora_alpha"),
        ({"r": 0, "lora_alpha": 3}, g(10, 4), "expected numbers r and lora_alpha"),
        ({"r": 4, "lora_alpha": 3}, g(10, 3), r"q.weight: factors B \(10, 3\) and A \(4, 6\) do not fit"),
        ({"r": 4, "lora_alpha": 3}, None, "q.weight has no factor B, expected A and B"),
    ],
)
def test_an_adapter_that_is_not_whole_is_refused(
    config: dict[str, Any] | None, b: Tensor | None, why: str, tmp_path: Path
) -> None:
    tensors = {"q.lora_A.weight": g(4, 6)} | ({} if b is None else {"q.lora_B.weight": b})
    with pytest.raises(DamagedCheckpoint, match=why):
        adapter(tmp_path, tensors, config).weights()["q.weight"]
