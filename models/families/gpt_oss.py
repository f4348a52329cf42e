"""gpt-oss: all experts in one tensor, stored as (in, out), with alternating columns of gate and up."""

from dataclasses import replace

from specdyn.models.families.base import BIAS, DOWN, GATE, UP, Rule
from specdyn.models.families.experts import FAMILY as EXPERTS

MLP = "layers.#.mlp."

FAMILY = replace(
    EXPERTS,
    name="gpt_oss",
    title="gpt-oss",
    model_types=("gpt_oss",),
    known_by=(
        "layers.#.self_attn.o_proj.weight",
        MLP + "experts.gate_up_proj",
        MLP + "experts.gate_up_proj_bias",
        MLP + "router.weight",
    ),
    rules=(
        Rule(pattern=MLP + "experts.gate_up_proj_bias|" + MLP + "experts.down_proj_bias", role=BIAS),
        Rule(
            pattern=MLP + "experts.gate_up_proj",
            role="fused",
            stored="in_out",
            experts=True,
            parts=(GATE, UP),
            cut="alternating",
        ),
        Rule(pattern=MLP + "experts.down_proj", role=DOWN, stored="in_out", experts=True),
        *EXPERTS.rules,
    ),
)
