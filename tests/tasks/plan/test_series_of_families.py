"""What a cube says of the network whose checkpoints it has: family, roles, pairs by head, and which weights."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

import specdyn
from specdyn.storage.places import Store
from specdyn.tasks.foreign.network.layout import Look
from specdyn.tasks.plan.gathering import gather
from specdyn.tasks.plan.here import ThisProcess
from specdyn.tasks.plan.series import SeriesStudy
from specdyn.tasks.plan.sources import look

ANALYSES = ("spectrum", "alignment", "null_levels", "products")
AT = "model.layers.0."
SHAPES = {
    "model.embed_tokens.weight": (9, 8),
    **{f"{AT}self_attn.{one}_proj.weight": (rows, 8) for one, rows in (("q", 8), ("k", 4), ("v", 4), ("o", 8))},
    **{f"{AT}mlp.{one}_proj.weight": (12, 8) for one in ("gate", "up")},
    f"{AT}mlp.down_proj.weight": (8, 12),
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for step in (0, 10):
        draw = torch.Generator().manual_seed(step)
        at = tmp_path / "llama" / f"checkpoint-{step}"
        at.mkdir(parents=True)
        save_file(
            {name: torch.randn(*shape, generator=draw) for name, shape in SHAPES.items()}, at / "model.safetensors"
        )
        config = {
            "model_type": "llama",
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "tie_word_embeddings": True,
        }
        (at / "config.json").write_text(json.dumps(config))
    return tmp_path / "llama"


def test_the_family_and_the_roles_stand_in_the_cube(folder: Path, local_store: Store) -> None:
    study = SeriesStudy(name="theirs", sources=(look(str(folder)),), analyses=ANALYSES, audited=True)
    assert (
        study.sources[0].layout.described[0].startswith("family: llama (config.json says model_type llama); 8 layers")
    )
    study = study.checked(local_store)
    unit = study.items(local_store)[0].unit
    assert unit is not None
    unit.function(ThisProcess(), lambda _: None, *unit.arguments)
    study.record(local_store)
    gather(study, local_store, report=False)
    results = specdyn.open(local_store.cube("theirs"))
    assert json.loads(results.attrs["families"]) == {"llama": ["llama", "config.json says model_type llama"]}
    roles = results["layers"]["role"].to_series().to_dict()
    assert roles[f"{AT}mlp.gate_proj.weight"] == "gate" and roles["model.embed_tokens.weight"] == "embedding"
    heads = results["attention"]["head_alignment_score"]
    assert heads.sizes["head"] == 4 and bool(heads.notnull().all())
    pairs = [str(name) for name in results["pairs"]["pair"].values]
    assert pairs[-1] == f"{AT}mlp.down_proj.weight -> model.embed_tokens.weight", "the head is the embedding"
    assert bool(results["pairs"]["alignment_score"].notnull().all())


def test_other_heads_are_other_results(folder: Path) -> None:
    usual, other = (look(str(folder), how=Look(heads=heads)).layout for heads in (0, 2))
    assert usual.layers == other.layers and usual.pairs != other.pairs
