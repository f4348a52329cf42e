"""Llama and similar networks: Qwen, Mistral, Gemma, OLMo, SmolLM, and Phi-3 with its fused projections."""

from specdyn.models.families.base import (
    DOWN,
    EMBEDDING,
    GATE,
    HEAD,
    KEY,
    OUTPUT,
    PARALLEL,
    QKV,
    QUERY,
    SEQUENTIAL,
    UP,
    VALUE,
    Family,
    Rule,
)

AT, MLP = "layers.#.self_attn.", "layers.#.mlp."
ATTENTION = (
    Rule(pattern=AT + "q_proj.weight", role=QUERY),
    Rule(pattern=AT + "k_proj.weight", role=KEY),
    Rule(pattern=AT + "v_proj.weight", role=VALUE),
    Rule(pattern=AT + "qkv_proj.weight", role="fused", parts=QKV),
    Rule(pattern=AT + "o_proj.weight", role=OUTPUT),
)
ENDS = (
    Rule(pattern="embed_tokens.weight", role=EMBEDDING),
    Rule(pattern="lm_head.weight|score.weight", role=HEAD, ties=True),
)

FAMILY = Family(
    name="llama",
    title="Llama, Qwen, Mistral, Gemma, OLMo",
    model_types=(
        "llama",
        "mistral",
        "ministral",
        "qwen2",
        "qwen3",
        "gemma",
        "gemma2",
        "gemma3",
        "gemma3_text",
        "olmo",
        "olmo2",
        "olmo3",
        "phi3",
        "smollm3",
        "helium",
        "seed_oss",
        "exaone4",
        "granite",
        "stablelm",
        "internlm3",
    ),
    known_by=(
        "layers.#.self_attn.o_proj.weight",
        "layers.#.mlp.down_proj.weight",
        MLP + "up_proj.weight|" + MLP + "gate_up_proj.weight",
    ),
    rules=(
        *ATTENTION,
        Rule(pattern=MLP + "gate_proj.weight", role=GATE),
        Rule(pattern=MLP + "up_proj.weight", role=UP),
        Rule(pattern=MLP + "gate_up_proj.weight", role="fused", parts=(GATE, UP)),
        Rule(pattern=MLP + "down_proj.weight", role=DOWN),
        *ENDS,
    ),
    feeds=SEQUENTIAL,
    feeds_if={"use_parallel_residual": PARALLEL},
    native="model.layers.#.self_attn.o_proj.weight",
)
