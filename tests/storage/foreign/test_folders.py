"""Which files of a checkpoint's folder are read, where it holds several, and what is said of it."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from specdyn.storage.access.objects import StoreError
from specdyn.storage.checkpoints import DamagedCheckpoint
from specdyn.storage.foreign.find import find_checkpoints
from specdyn.storage.foreign.found import Found, Search
from specdyn.storage.foreign.weights import Choice


def save(path: Path, value: float = 1.0, names: tuple[str, ...] = ("w",)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    tensors = {name: torch.full((2, 2), value) for name in names}
    if path.suffix == ".safetensors":
        save_file(tensors, path)
    else:
        torch.save({"module": tensors} if "mp_rank" in path.name else tensors, path)


def found(folder: Path, **options: str) -> Found:
    return find_checkpoints(str(folder), search=Search(choice=Choice(**options)))


def value(series: Found, name: str = "w") -> float:
    (checkpoint,) = series.checkpoints
    return float(checkpoint.weights()[name][0, 0])


@pytest.mark.parametrize(
    ("names", "taken"),
    [
        (("lit_model.pth",), "lit_model.pth"),
        (("consolidated.00.pth",), "consolidated.00.pth"),
        (("anything-at-all.pth", "optimizer.pt", "scheduler.pt", "rng_state_0.pth"), "anything-at-all.pth"),
        (("model.safetensors", "pytorch_model.bin", "training_args.bin"), "model.safetensors"),
        (("model.safetensors", "model_ema.safetensors"), "model.safetensors"),
        (("model.safetensors", "adapter_model.safetensors"), "model.safetensors"),
        (("net.pt", "net_ema.pt"), "net.pt"),
        (
            ("diffusion_pytorch_model.safetensors", "diffusion_pytorch_model.fp16.safetensors"),
            "diffusion_pytorch_model",
        ),
        (("unet/diffusion_pytorch_model.safetensors", "vae/diffusion_pytorch_model.safetensors"), "unet/"),
        (("unet/diffusion_pytorch_model.bin", "unet_ema/diffusion_pytorch_model.bin", "optimizer.bin"), "unet/"),
        (("mp_rank_00_model_states.pt", "zero_pp_rank_0_mp_rank_00_optim_states.pt"), "mp_rank_00_model_states.pt"),
        (("global_step500/mp_rank_00_model_states.pt", "rng_state_0.pth"), "global_step500/mp_rank_00_model_states.pt"),
        (("mp_rank_00/model_optim_rng.pt",), "mp_rank_00/model_optim_rng.pt"),
        (("model.safetensors", "global_step500/mp_rank_00_model_states.pt"), "model.safetensors"),
    ],
)
def test_the_right_file_is_taken(names: tuple[str, ...], taken: str, tmp_path: Path) -> None:
    for name in names:
        save(tmp_path / "checkpoint-500" / name, 2.0 if name.startswith(taken) and "fp16" not in name else 1.0)
    for place in (tmp_path, tmp_path / "checkpoint-500"):
        series = found(place)
        assert ([c.step for c in series.checkpoints], value(series)) == ([500], 2.0)


def test_the_choice_is_reported_and_can_be_made(tmp_path: Path) -> None:
    for name, size in (("unet", 1.0), ("unet_ema", 2.0), ("text_encoder", 3.0)):
        save(tmp_path / "checkpoint-500" / name / "model.safetensors", size)
    (told,) = found(tmp_path).told
    assert told.startswith("checkpoint-500: part unet taken, not") and "text_encoder" in told and "unet_ema" in told
    assert value(found(tmp_path, part="text_encoder")) == 3.0
    assert value(found(tmp_path, weights="ema")) == 2.0
    with pytest.raises(StoreError, match="checkpoint-500: no part vae"):
        found(tmp_path, part="vae")
    for name, size in (("model.safetensors", 4.0), ("pytorch_model.bin", 5.0)):
        save(tmp_path / "checkpoint-600" / name, size)
    assert "checkpoint-600: model.safetensors taken, not pytorch_model.bin" in found(tmp_path).told


@pytest.mark.parametrize(
    ("names", "why"),
    [
        (("a.pt", "b.pt"), "several files of weights: a.pt, b.pt: choose with --weights"),
        (("left/model.pt", "right/model.pt"), "several parts: left, right: choose with --part"),
        (("flax_model.msgpack",), "weights in an unsupported format: flax_model.msgpack"),
        (("optimizer.pt",), "a folder without weights"),
    ],
)
def test_a_folder_that_cannot_be_decided_is_passed_over_with_the_reason(
    names: tuple[str, ...], why: str, tmp_path: Path
) -> None:
    for name in names:
        save(tmp_path / "step-1" / name)
    with pytest.raises(StoreError, match=f"step-1: {why}"):
        found(tmp_path)


def zero(folder: Path) -> None:
    for rank in (0, 1):
        save(folder / f"zero_pp_rank_{rank}_mp_rank_00_model_states.pt")
        save(folder / f"bf16_zero_pp_rank_{rank}_mp_rank_00_optim_states.pt")


def parallel(folder: Path) -> None:
    for rank in (0, 1):
        save(folder / f"mp_rank_0{rank}_model_states.pt")


def consolidated(folder: Path) -> None:
    for rank in (0, 1):
        save(folder / f"consolidated.0{rank}.pth")


def megatron(folder: Path) -> None:
    for rank in (0, 1):
        save(folder / f"mp_rank_0{rank}" / "model_optim_rng.pt")


def without_a_shard(folder: Path) -> None:
    folder.mkdir()
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": {"w": "gone.bin"}}))


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (zero, r"ZeRO stage 3: `python zero_to_fp32\.py \. OUT`"),
        (parallel, "2 slices of a model-parallel network: merge them"),
        (consolidated, "2 slices of a model-parallel network: merge them"),
        (megatron, "2 slices of a model-parallel network: merge them"),
        (without_a_shard, r"pytorch_model\.bin\.index\.json names gone\.bin, which is missing"),
    ],
)
def test_weights_that_are_spread_are_refused_when_they_are_asked_for(
    make: Callable[[Path], None], why: str, tmp_path: Path
) -> None:
    make(tmp_path / "global_step100")
    (checkpoint,) = found(tmp_path).checkpoints
    assert checkpoint.step == 100
    with pytest.raises(DamagedCheckpoint, match=why):
        checkpoint.weights()


def test_shards_of_torch_are_read_by_their_index(tmp_path: Path) -> None:
    folder = tmp_path / "checkpoint-7"
    save(folder / "pytorch_model-00001-of-00002.bin", 1.0, ("a",))
    save(folder / "pytorch_model-00002-of-00002.bin", 2.0, ("b", "c"))
    index = {"a": "pytorch_model-00001-of-00002.bin", "b": "pytorch_model-00002-of-00002.bin"}
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": index}))
    series = found(tmp_path)
    assert [value(series, name) for name in "abc"] == [1.0, 2.0, 2.0]
    save(folder / "pytorch_model-00002-of-00002.bin", 2.0, ("a",))
    with pytest.raises(DamagedCheckpoint, match=r"-00002-of-00002\.bin: tensor 'a' is in .*-00001-of-00002\.bin too"):
        value(found(tmp_path), "a")


def test_the_configuration_beside_the_weights_is_given(tmp_path: Path) -> None:
    save(tmp_path / "checkpoint-1" / "model.safetensors")
    save(tmp_path / "checkpoint-2" / "unet" / "model.safetensors")
    save(tmp_path / "checkpoint-3" / "model.safetensors")
    (tmp_path / "checkpoint-1" / "config.json").write_text('{"model_type": "llama"}')
    (tmp_path / "checkpoint-2" / "unet" / "config.json").write_text('{"sample_size": 8}')
    assert [c.config() for c in found(tmp_path).checkpoints] == [{"model_type": "llama"}, {"sample_size": 8}, None]
    (tmp_path / "checkpoint-3" / "config.json").write_text("{")
    with pytest.raises(DamagedCheckpoint, match=r"checkpoint-3/config\.json: expected a JSON object, found b'\{'"):
        found(tmp_path).checkpoints[-1].config()


def test_two_files_of_one_step_are_distinguished_by_what_they_hold(tmp_path: Path) -> None:
    for kind, size in (("model", 1.0), ("ema_0.9999_", 2.0), ("opt", 3.0)):
        for step in (10_000, 20_000):
            save(tmp_path / f"{kind}{step:06d}.pt", size)
    series = found(tmp_path)
    assert [(c.step, c.name) for c in series.checkpoints] == [(10_000, "model010000.pt"), (20_000, "model020000.pt")]
    assert dict(series.skipped) == {
        **{f"opt0{n}0000.pt": "belongs to an optimizer or similar, by its name" for n in (1, 2)},
        **{f"ema_0.9999_0{n}0000.pt": "running means of the weights (--weights ema takes them)" for n in (1, 2)},
    }
    chosen = found(tmp_path, weights="ema")
    assert [float(c.weights()["w"][0, 0]) for c in chosen.checkpoints] == [2.0, 2.0]
