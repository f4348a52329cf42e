"""GPT-NeoX and Pythia: queries, keys and values are interleaved by head."""

from specdyn.models.families.base import (
    BUFFER,
    DOWN,
    EMBEDDING,
    HEAD,
    OUTPUT,
    PARALLEL,
    QKV,
    SEQUENTIAL,
    UP,
    Family,
    Rule,
)

FAMILY = Family(
    name="gpt_neox",
    title="GPT-NeoX, Pythia",
    model_types=("gpt_neox",),
    known_by=(
        "layers.#.attention.query_key_value.weight",
        "layers.#.attention.dense.weight",
        "layers.#.mlp.dense_h_to_4h.weight",
    ),
    rules=(
        Rule(pattern="layers.#.attention.query_key_value.weight", role="fused", parts=QKV, cut="grouped"),
        Rule(pattern="layers.#.attention.dense.weight", role=OUTPUT),
        Rule(pattern="layers.#.mlp.dense_h_to_4h.weight", role=UP),
        Rule(pattern="layers.#.mlp.dense_4h_to_h.weight", role=DOWN),
        Rule(pattern="layers.#.attention.bias|layers.#.attention.masked_bias", role=BUFFER),
        Rule(pattern="embed_in.weight", role=EMBEDDING),
        Rule(pattern="embed_out.weight", role=HEAD, ties=True),
    ),
    feeds=PARALLEL,
    feeds_unless={"use_parallel_residual": SEQUENTIAL},
)
