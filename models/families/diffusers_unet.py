"""UNets of diffusers: feeds within residual blocks and attention; blocks are joined by sums and skips."""

from specdyn.models.families.base import (
    CONVOLUTION,
    DOWN,
    FUSED,
    GATE,
    KEY,
    LINEAR,
    OUTPUT,
    QUERY,
    UP,
    VALUE,
    Family,
    Feed,
    Rule,
    attention,
    within,
)

NAMES = (("to_q", QUERY), ("to_k", KEY), ("to_v", VALUE), ("to_out.0", OUTPUT))


def projections(at: str, of: str = "") -> tuple[Rule, ...]:
    """The four projections of one attention."""
    return tuple(
        Rule(pattern=f"{at}{name}.weight", role=role, slot=f"{of} {role}" if of else "") for name, role in NAMES
    )


FAMILY = Family(
    name="diffusers_unet",
    title="UNet of diffusers",
    model_types=("UNet2DModel", "UNet2DConditionModel"),
    known_by=("down_blocks.#.resnets.#.conv1.weight", "up_blocks.#.resnets.#.conv1.weight", "conv_in.weight"),
    rules=(
        *projections("transformer_blocks.#.attn1.", "self"),
        *projections("transformer_blocks.#.attn2.", "cross"),
        *projections("attentions.#."),
        Rule(pattern="transformer_blocks.#.ff.net.0.proj.weight", role=FUSED, parts=(UP, GATE)),
        Rule(pattern="transformer_blocks.#.ff.net.2.weight", role=DOWN),
        Rule(pattern="attentions.#.proj_in.weight|attentions.#.proj_out.weight", role=LINEAR, slot="projection"),
        Rule(pattern="resnets.#.conv1.weight", role=CONVOLUTION, slot="first"),
        Rule(pattern="resnets.#.conv2.weight", role=CONVOLUTION, slot="second"),
        Rule(pattern="resnets.#.conv_shortcut.weight", role=CONVOLUTION, slot="shortcut"),
        Rule(pattern="resnets.#.time_emb_proj.weight", role=LINEAR, slot="time"),
        Rule(pattern="time_embedding.linear_1.weight", role=LINEAR, slot="time first"),
        Rule(pattern="time_embedding.linear_2.weight", role=LINEAR, slot="time second"),
        Rule(pattern="downsamplers.#.conv.weight|upsamplers.#.conv.weight", role=CONVOLUTION),
        Rule(pattern="conv_in.weight|conv_out.weight", role=CONVOLUTION, slot="end"),
    ),
    feeds=(
        Feed(writers=("time first",), readers=("time second",)),
        Feed(writers=("time second",), readers=("time",), where="all"),
        Feed(writers=("first", "time"), readers=("second",)),
        *attention(),
        *within("self"),
        Feed(writers=("self output",), readers=("cross query",)),
        *within("cross"),
        Feed(writers=("cross output|self output",), readers=(UP, GATE)),
        Feed(writers=(UP, GATE), readers=(DOWN,)),
    ),
)
