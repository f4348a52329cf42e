"""The golden checkpoints of a modular-addition transformer, and what the paper's own code measured on them."""

import dataclasses
import functools
import json
from pathlib import Path

import numpy as np
from safetensors.torch import load_file
from torch import Tensor

from models.data.modular_addition import ModularAddition
from models.experiment import Examples, get_experiment
from models.run_spec import RunSpec

FOLDER = Path(__file__).parents[1] / "fixtures/golden/modular_addition"
META = json.loads((FOLDER / "meta.json").read_text())
EXPECTED: dict[str, np.ndarray] = dict(np.load(FOLDER / "expected.npz"))
STEPS = tuple(int(step) for step in EXPECTED["step"])
LAYERS: tuple[str, ...] = tuple(META["matrix_order"])

_BLOCK = "transformer_encoder.layers.0."
_FUSED = _BLOCK + "self_attn.in_proj_weight"
ALIGNMENTS = (
    f"encoder.weight_{_FUSED}_align",
    f"{_FUSED}_{_FUSED}_qk_align",
    f"{_FUSED}_{_BLOCK}self_attn.out_proj.weight_align",
    f"{_BLOCK}self_attn.out_proj.weight_{_BLOCK}linear1.weight_align",
    f"{_BLOCK}linear1.weight_{_BLOCK}linear2.weight_align",
    f"{_BLOCK}linear2.weight_decoder.weight_align",
)
"""In the order of METHOD 4.4: into the layer, query-key, value-output, output-up, up-down, into the decoder."""


def spec(eval_batch_size: int = 64) -> RunSpec:
    """The spec of the golden run, as far as it decides network, data and evaluation."""
    paper = get_experiment("modular_addition").preset("paper").spec
    data = ModularAddition(prime=META["prime"], train_fraction=0.6)
    return dataclasses.replace(paper, data=data, eval_batch_size=eval_batch_size)


@functools.cache
def weights(step: int) -> dict[str, Tensor]:
    """The checkpoint of a step."""
    return load_file(FOLDER / f"step={step:08d}.safetensors")


@functools.cache
def data() -> dict[str, Examples]:
    """The rows that the golden numbers were measured on."""
    return {
        split: Examples(rows[:, :3].contiguous(), rows[:, 3].contiguous())
        for split, rows in load_file(FOLDER / "data.safetensors").items()
    }


def expected(key: str, step: int) -> np.ndarray:
    """The golden array of a key at a step."""
    return EXPECTED[key][STEPS.index(step)]


def separated(s: np.ndarray) -> np.ndarray:
    """Where a singular value differs by more than 1e-3 of itself from both neighbours."""
    gap = np.diff(s, axis=-1, prepend=np.inf, append=0.0)
    return np.minimum(-gap[..., :-1], -gap[..., 1:]) > 1e-3 * s
