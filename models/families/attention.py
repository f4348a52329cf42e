"""Attention by the usual names of its projections, in networks of any family.

Names alone do not say how heads are split, so pairs are declared only if the number of heads is known.
"""

from specdyn.models.families.base import KEY, OUTPUT, QKV, QUERY, VALUE, Family, Rule, attention


def named(*names: str) -> str:
    """The weights of layers that have one of these names."""
    return "|".join(f"{name}.weight" for name in names)


FUSED = ("qkv", "Wqkv", "qkv_proj", "to_qkv", "c_attn", "in_proj_qkv", "attn_qkv")
QUERIES = (
    "q_proj",
    "query",
    "to_q",
    "wq",
    "Wq",
    "W_q",
    "w_q",
    "w_qs",
    "q",
    "q_lin",
    "query_proj",
    "q_linear",
    "queries",
)

FAMILY = Family(
    name="attention",
    title="attention by its names",
    fragment=True,
    only_with_heads=True,
    known_by=(named(*FUSED, *QUERIES),),
    rules=(
        Rule(pattern=named(*FUSED), role="fused", parts=QKV),
        Rule(pattern=named(*QUERIES), role=QUERY),
        Rule(
            pattern=named(
                *(
                    "k_proj",
                    "key",
                    "to_k",
                    "wk",
                    "Wk",
                    "W_k",
                    "w_k",
                    "w_ks",
                    "k",
                    "k_lin",
                    "key_proj",
                    "k_linear",
                    "keys",
                )
            ),
            role=KEY,
        ),
        Rule(
            pattern=named(
                *("v_proj", "value", "to_v", "wv", "Wv", "W_v", "w_v", "w_vs", "v", "v_lin", "value_proj", "v_linear"),
                "values",
            ),
            role=VALUE,
        ),
        Rule(
            pattern=named(
                *(
                    "o_proj",
                    "out_proj",
                    "to_out.0",
                    "to_out",
                    "wo",
                    "Wo",
                    "W_o",
                    "w_o",
                    "o",
                    "out_lin",
                    "proj",
                    "c_proj",
                ),
                *("fc", "output_proj", "dense", "out", "out_linear"),
            ),
            role=OUTPUT,
        ),
    ),
    feeds=attention(),
)
