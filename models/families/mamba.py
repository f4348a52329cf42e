"""Mamba: the projections of its blocks that are matrices."""

from specdyn.models.families.base import DEPTHWISE, EMBEDDING, GATE, HEAD, OUTPUT, TABLE, UP, Family, Feed, Rule

AT = "layers.#.mixer."
SELECTION = ("time step", "B", "C")

FAMILY = Family(
    name="mamba",
    title="Mamba",
    model_types=("mamba", "falcon_mamba"),
    known_by=(AT + "in_proj.weight", AT + "x_proj.weight", AT + "dt_proj.weight", AT + "out_proj.weight"),
    rules=(
        Rule(pattern=AT + "in_proj.weight", role="fused", parts=(UP, GATE)),
        Rule(pattern=AT + "x_proj.weight", role="fused", parts=SELECTION, sizes=("time_step_rank", "state_size")),
        Rule(pattern=AT + "dt_proj.weight", role="step projection"),
        Rule(pattern=AT + "out_proj.weight", role=OUTPUT),
        Rule(pattern=AT + "A_log", role=TABLE),
        Rule(pattern=AT + "conv1d.weight", role=DEPTHWISE),
        Rule(pattern="embeddings.weight|embedding.weight", role=EMBEDDING),
        Rule(pattern="lm_head.weight", role=HEAD, ties=True),
    ),
    kinds={**dict.fromkeys((UP, GATE, OUTPUT), "recurrent"), "": "recurrent"},
    feeds=(
        Feed(writers=(EMBEDDING,), readers=(UP, GATE), where="then"),
        Feed(writers=(UP,), readers=SELECTION),
        Feed(writers=("time step",), readers=("step projection",)),
        Feed(writers=(UP, GATE), readers=(OUTPUT,)),
        Feed(writers=(OUTPUT,), readers=(UP, GATE), where="next"),
        Feed(writers=(OUTPUT,), readers=(HEAD,), where="then"),
    ),
)
