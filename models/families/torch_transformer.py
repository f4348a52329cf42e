"""`nn.TransformerEncoder` and `nn.TransformerDecoder` of torch."""

from specdyn.models.families.base import (
    BUFFER,
    DOWN,
    EMBEDDING,
    HEAD,
    OUTPUT,
    QKV,
    READS_STREAM,
    UP,
    Family,
    Feed,
    Rule,
    attention,
    within,
)

FAMILY = Family(
    name="torch_transformer",
    title="nn.TransformerEncoder",
    known_by=("layers.#.self_attn.in_proj_weight", "layers.#.self_attn.out_proj.weight", "layers.#.linear1.weight"),
    rules=(
        Rule(pattern="layers.#.self_attn.in_proj_weight", role="fused", parts=QKV),
        Rule(pattern="layers.#.self_attn.out_proj.weight", role=OUTPUT),
        Rule(pattern="layers.#.multihead_attn.in_proj_weight", role="fused", slot="cross", parts=QKV),
        Rule(pattern="layers.#.multihead_attn.out_proj.weight", role=OUTPUT, slot="cross output"),
        Rule(pattern="layers.#.linear1.weight", role=UP),
        Rule(pattern="layers.#.linear2.weight", role=DOWN),
        Rule(pattern="pe", role=BUFFER),
        # Named as in torch's own language-model example.
        Rule(pattern="encoder.weight|embedding.weight|embed.weight", role=EMBEDDING),
        Rule(pattern="decoder.weight", role=HEAD),
    ),
    feeds=(
        Feed(writers=(EMBEDDING,), readers=READS_STREAM, where="then"),
        *attention(),
        *within("cross"),
        Feed(writers=(OUTPUT,), readers=("cross query",)),
        Feed(writers=("cross output|" + OUTPUT,), readers=(UP,)),
        Feed(writers=(UP,), readers=(DOWN,)),
        Feed(writers=(DOWN,), readers=READS_STREAM, where="next"),
        Feed(writers=(DOWN,), readers=(HEAD,), where="then"),
    ),
)
