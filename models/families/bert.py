"""BERT, RoBERTa and other encoders with the same names."""

from specdyn.models.families.base import (
    DOWN,
    EMBEDDING,
    HEAD,
    KEY,
    LINEAR,
    OUTPUT,
    POSITION,
    QUERY,
    SEQUENTIAL,
    UP,
    VALUE,
    Family,
    Feed,
    Rule,
)

AT = "layer.#.attention."

FAMILY = Family(
    name="bert",
    title="BERT, RoBERTa",
    model_types=(
        "bert",
        "roberta",
        "xlm-roberta",
        "camembert",
        "electra",
        "data2vec-text",
        "roberta-prelayernorm",
        "ernie",
    ),
    known_by=(AT + "self.query.weight", AT + "output.dense.weight", "layer.#.intermediate.dense.weight"),
    rules=(
        Rule(pattern=AT + "self.query.weight", role=QUERY),
        Rule(pattern=AT + "self.key.weight", role=KEY),
        Rule(pattern=AT + "self.value.weight", role=VALUE),
        Rule(pattern=AT + "output.dense.weight", role=OUTPUT),
        Rule(pattern="layer.#.intermediate.dense.weight", role=UP),
        Rule(pattern="layer.#.output.dense.weight", role=DOWN),
        Rule(pattern="embeddings.word_embeddings.weight", role=EMBEDDING),
        Rule(pattern="embeddings.position_embeddings.weight|embeddings.token_type_embeddings.weight", role=POSITION),
        Rule(pattern="pooler.dense.weight", role=LINEAR, slot="pooler"),
        Rule(
            pattern="predictions.transform.dense.weight|lm_head.dense.weight|classifier.dense.weight",
            role=LINEAR,
            slot="transform",
        ),
        Rule(
            pattern="predictions.decoder.weight|lm_head.decoder.weight|classifier.out_proj.weight",
            role=HEAD,
            slot="after transform",
            ties=True,
        ),
        Rule(pattern="seq_relationship.weight|classifier.weight", role=HEAD, slot="after pooler"),
        Rule(pattern="qa_outputs.weight", role=HEAD),
    ),
    feeds=(
        *SEQUENTIAL,
        Feed(writers=(DOWN,), readers=("pooler", "transform"), where="then"),
        Feed(writers=("pooler|" + DOWN,), readers=("after pooler",), where="then"),
        Feed(writers=("transform",), readers=("after transform",), where="then"),
    ),
)
