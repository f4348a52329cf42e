"""T5: an encoder, and a decoder whose cross attention reads the encoder's last block."""

from specdyn.models.families.base import (
    DOWN,
    EMBEDDING,
    GATE,
    HEAD,
    KEY,
    OUTPUT,
    POSITION,
    QUERY,
    UP,
    VALUE,
    Family,
    Feed,
    Rule,
    within,
)


def block(stack: str, attention: str, mlp: str) -> tuple[Rule, ...]:
    """The tensors of a stack's self attention and MLP."""
    at, own = f"{stack}.block.#.layer.0.SelfAttention.", f"{stack}.block.#.layer.{mlp}.DenseReluDense."
    return (
        *projections(at, attention),
        *(
            Rule(pattern=own + f"{name}.weight", role=role, slot=f"{stack} {role}")
            for name, role in (("wi", UP), ("wi_0", GATE), ("wi_1", UP), ("wo", DOWN))
        ),
    )


def projections(at: str, of: str) -> tuple[Rule, ...]:
    """The four projections of one attention."""
    roles = zip("qkvo", (QUERY, KEY, VALUE, OUTPUT), strict=True)
    return tuple(Rule(pattern=f"{at}{letter}.weight", role=role, slot=f"{of} {role}") for letter, role in roles)


def slots(of: str, *roles: str) -> tuple[str, ...]:
    """The slots of some roles in a stack."""
    return tuple(f"{of} {role}" for role in roles)


ENCODER_MLP, DECODER_MLP = slots("encoder", GATE, UP), slots("decoder", GATE, UP)

FAMILY = Family(
    name="t5",
    title="T5",
    model_types=("t5", "mt5", "longt5", "umt5"),
    known_by=("encoder.block.#.layer.0.SelfAttention.q.weight", "encoder.block.#.layer.1.DenseReluDense.wo.weight"),
    rules=(
        *block("encoder", "encoder", "1"),
        *block("decoder", "decoder", "2"),
        *projections("decoder.block.#.layer.1.EncDecAttention.", "cross"),
        Rule(pattern="SelfAttention.relative_attention_bias.weight", role=POSITION),
        Rule(pattern="shared.weight|encoder.embed_tokens.weight|decoder.embed_tokens.weight", role=EMBEDDING),
        Rule(pattern="lm_head.weight", role=HEAD, ties=True),
    ),
    feeds=(
        Feed(writers=(EMBEDDING,), readers=slots("encoder", QUERY, KEY, VALUE), where="then"),
        *within("encoder"),
        Feed(writers=("encoder output",), readers=ENCODER_MLP),
        Feed(writers=ENCODER_MLP, readers=("encoder down",)),
        Feed(writers=("encoder down",), readers=slots("encoder", QUERY, KEY, VALUE), where="next"),
        Feed(writers=(EMBEDDING,), readers=slots("decoder", QUERY, KEY, VALUE), where="then"),
        *within("decoder"),
        Feed(writers=("decoder output",), readers=("cross query",)),
        Feed(writers=("encoder down",), readers=slots("cross", KEY, VALUE), where="each"),
        *within("cross"),
        Feed(writers=("cross output",), readers=DECODER_MLP),
        Feed(writers=DECODER_MLP, readers=("decoder down",)),
        Feed(writers=("decoder down",), readers=slots("decoder", QUERY, KEY, VALUE), where="next"),
        Feed(writers=("decoder down",), readers=(HEAD,), where="then"),
    ),
)
