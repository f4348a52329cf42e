"""Vision transformers of transformers and timm: ViT, DeiT."""

from specdyn.models.families.base import (
    CONVOLUTION,
    DOWN,
    HEAD,
    KEY,
    LINEAR,
    OUTPUT,
    POSITION,
    QKV,
    QUERY,
    READS_STREAM,
    SEQUENTIAL,
    UP,
    VALUE,
    Family,
    Feed,
    Rule,
)

AT = "layer.#.attention."
TOKENS = "cls_token|dist_token|reg_token|distillation_token|mask_token|register_tokens"

FAMILY = Family(
    name="vit",
    title="ViT, DeiT",
    model_types=("vit", "deit", "vit_mae", "vit_msn", "dinov2", "beit"),
    known_by=(
        "layer.#.attention.attention.query.weight|blocks.#.attn.qkv.weight",
        AT + "output.dense.weight|blocks.#.attn.proj.weight",
    ),
    rules=(
        Rule(pattern=AT + "attention.query.weight", role=QUERY),
        Rule(pattern=AT + "attention.key.weight", role=KEY),
        Rule(pattern=AT + "attention.value.weight", role=VALUE),
        Rule(pattern="blocks.#.attn.qkv.weight", role="fused", parts=QKV),
        Rule(pattern=AT + "output.dense.weight|blocks.#.attn.proj.weight", role=OUTPUT),
        Rule(pattern="layer.#.intermediate.dense.weight|layer.#.mlp.fc1.weight|blocks.#.mlp.fc1.weight", role=UP),
        Rule(pattern="layer.#.output.dense.weight|layer.#.mlp.fc2.weight|blocks.#.mlp.fc2.weight", role=DOWN),
        Rule(pattern="patch_embeddings.projection.weight|patch_embed.proj.weight", role=CONVOLUTION, slot="patches"),
        Rule(pattern=TOKENS, role=POSITION),
        Rule(pattern="position_embeddings|pos_embed", role=POSITION),
        Rule(pattern="pooler.dense.weight", role=LINEAR, slot="pooler"),
        Rule(
            pattern="classifier.weight|cls_classifier.weight|distillation_classifier.weight|head.weight|head_dist.weight",
            role=HEAD,
        ),
    ),
    feeds=(
        Feed(writers=("patches",), readers=READS_STREAM, where="then"),
        *SEQUENTIAL,
        Feed(writers=(DOWN,), readers=("pooler",), where="then"),
    ),
)
