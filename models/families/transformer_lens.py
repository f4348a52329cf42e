"""TransformerLens and the grokking literature's code: one matrix per head, stored as (in, out)."""

from specdyn.models.families.base import (
    BIAS,
    BUFFER,
    DOWN,
    EMBEDDING,
    GATE,
    HEAD,
    KEY,
    OUTPUT,
    POSITION,
    QUERY,
    SEQUENTIAL,
    UP,
    VALUE,
    Family,
    Rule,
    Stored,
)

AT, MLP = "blocks.#.attn.", "blocks.#.mlp."


def rules(stored: Stored) -> tuple[Rule, ...]:
    """The tensors, with weights stored as (in, out) or (out, in), and the embedding the other way round."""
    return (
        Rule(pattern=AT + "W_Q", role=QUERY, stored=stored, heads=True),
        Rule(pattern=AT + "W_K|" + AT + "_W_K", role=KEY, stored=stored, heads=True),
        Rule(pattern=AT + "W_V|" + AT + "_W_V", role=VALUE, stored=stored, heads=True),
        Rule(pattern=AT + "W_O", role=OUTPUT, stored=stored, heads=stored == "in_out"),
        Rule(pattern=AT + "b_*|" + MLP + "b_*", role=BIAS),
        Rule(pattern=AT + "mask|" + AT + "IGNORE", role=BUFFER),
        Rule(pattern=MLP + "W_gate", role=GATE, stored=stored),
        Rule(pattern=MLP + "W_in", role=UP, stored=stored),
        Rule(pattern=MLP + "W_out", role=DOWN, stored=stored),
        Rule(pattern="W_E", role=EMBEDDING, stored="out_in" if stored == "in_out" else "in_out"),
        Rule(pattern="W_pos", role=POSITION),
        Rule(pattern="W_U", role=HEAD, stored="in_out"),
    )


FAMILY = Family(
    name="transformer_lens",
    title="TransformerLens",
    known_by=(AT + "W_Q", AT + "W_K|" + AT + "_W_K", AT + "W_O", "W_E"),
    stored={AT + "W_Q": "in_out"},
    rules=rules("in_out"),
    feeds=SEQUENTIAL,
)
