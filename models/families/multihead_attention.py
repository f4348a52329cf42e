"""`nn.MultiheadAttention` in any network: queries, keys and values, each a third of the rows of one tensor."""

from specdyn.models.families.base import KEY, OUTPUT, QKV, QUERY, VALUE, Family, Rule, attention

FAMILY = Family(
    name="multihead_attention",
    title="nn.MultiheadAttention",
    fragment=True,
    known_by=("in_proj_weight|q_proj_weight",),
    rules=(
        Rule(pattern="in_proj_weight", role="fused", parts=QKV),
        Rule(pattern="q_proj_weight", role=QUERY),
        Rule(pattern="k_proj_weight", role=KEY),
        Rule(pattern="v_proj_weight", role=VALUE),
        Rule(pattern="out_proj.weight", role=OUTPUT),
    ),
    feeds=attention(),
)
