"""Mixture-of-experts transformers (Mixtral, Qwen, OLMoE), with one tensor per expert or one for all."""

from specdyn.models.families.base import DOWN, GATE, ROUTER, SEQUENTIAL, UP, Family, Rule
from specdyn.models.families.llama import ATTENTION, ENDS
from specdyn.models.families.llama import FAMILY as DENSE

MOE, MLP = "layers.#.block_sparse_moe.", "layers.#.mlp."

FAMILY = Family(
    name="experts",
    title="Mixtral, Qwen and OLMo with experts",
    model_types=(
        "mixtral",
        "qwen2_moe",
        "qwen3_moe",
        "olmoe",
        "phimoe",
        "minimax",
        "ernie4_5_moe",
        "dots1",
        "flex_olmo",
    ),
    known_by=(
        "layers.#.self_attn.o_proj.weight",
        f"{MOE}experts.@.w2.weight|{MLP}experts.@.down_proj.weight|{MLP}experts.down_proj|{MOE}experts.down_proj",
    ),
    rules=(
        *ATTENTION,
        Rule(pattern=f"{MOE}gate.weight|{MLP}gate.weight|{MLP}router.weight|{MLP}router.linear.weight", role=ROUTER),
        Rule(pattern=f"{MOE}experts.@.w1.weight|{MLP}experts.@.gate_proj.weight", role=GATE),
        Rule(pattern=f"{MOE}experts.@.w3.weight|{MLP}experts.@.up_proj.weight", role=UP),
        Rule(pattern=f"{MOE}experts.@.w2.weight|{MLP}experts.@.down_proj.weight", role=DOWN),
        Rule(
            pattern=f"{MOE}experts.gate_up_proj|{MLP}experts.gate_up_proj", role="fused", experts=True, parts=(GATE, UP)
        ),
        Rule(pattern=f"{MOE}experts.down_proj|{MLP}experts.down_proj", role=DOWN, experts=True),
        Rule(pattern=MLP + "shared_expert.gate_proj.weight|" + MLP + "shared_experts.gate_proj.weight", role=GATE),
        Rule(pattern=MLP + "shared_expert.up_proj.weight|" + MLP + "shared_experts.up_proj.weight", role=UP),
        Rule(pattern=MLP + "shared_expert.down_proj.weight|" + MLP + "shared_experts.down_proj.weight", role=DOWN),
        Rule(pattern=MLP + "shared_expert_gate.weight", role="shared gate"),
        *(rule for rule in DENSE.rules if rule not in (*ATTENTION, *ENDS)),
        *ENDS,
    ),
    feeds=SEQUENTIAL,
    native="model.layers.#.self_attn.o_proj.weight",
)
