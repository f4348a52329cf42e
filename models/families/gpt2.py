"""GPT-2 in transformers, whose `Conv1D` stores weights as (in, out)."""

from specdyn.models.families.base import (
    BUFFER,
    DOWN,
    EMBEDDING,
    HEAD,
    OUTPUT,
    POSITION,
    QKV,
    SEQUENTIAL,
    UP,
    Family,
    Rule,
    Stored,
)


def rules(stored: Stored) -> tuple[Rule, ...]:
    """The tensors of blocks, embeddings and head, with weights stored as (in, out) or (out, in)."""
    return (
        Rule(pattern="h.#.attn.c_attn.weight", role="fused", parts=QKV, stored=stored),
        Rule(pattern="h.#.attn.c_proj.weight", role=OUTPUT, stored=stored),
        Rule(pattern="h.#.mlp.c_fc.weight", role=UP, stored=stored),
        Rule(pattern="h.#.mlp.c_proj.weight", role=DOWN, stored=stored),
        Rule(pattern="h.#.attn.bias|h.#.attn.masked_bias", role=BUFFER),
        Rule(pattern="wte.weight", role=EMBEDDING),
        Rule(pattern="wpe.weight", role=POSITION),
        Rule(pattern="lm_head.weight", role=HEAD, ties=True),
    )


FAMILY = Family(
    name="gpt2",
    title="GPT-2",
    model_types=("gpt2",),
    known_by=("h.#.attn.c_attn.weight",),
    stored={"h.#.attn.c_attn.weight": "in_out"},
    rules=rules("in_out"),
    feeds=SEQUENTIAL,
)
