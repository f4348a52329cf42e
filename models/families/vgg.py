"""VGG of torchvision and timm: a chain, whose first linear layer reads channels by position."""

from specdyn.models.families.base import CONVOLUTION, HEAD, LINEAR, Family, Feed, Rule

FAMILY = Family(
    name="vgg",
    title="VGG",
    known_by=("features.#.weight", "classifier.#.weight|pre_logits.fc1.weight"),
    rules=(
        Rule(pattern="features.#.weight", role=CONVOLUTION),
        Rule(pattern="classifier.#.weight", role=LINEAR),
        Rule(pattern="pre_logits.fc1.weight", role=CONVOLUTION, slot="fc1"),
        Rule(pattern="pre_logits.fc2.weight", role=CONVOLUTION, slot="fc2"),
        Rule(pattern="head.fc.weight", role=HEAD),
    ),
    feeds=(
        Feed(writers=(CONVOLUTION,), readers=(CONVOLUTION,), where="next"),
        Feed(writers=(CONVOLUTION,), readers=(LINEAR, "fc1"), where="then"),
        Feed(writers=(LINEAR,), readers=(LINEAR,), where="next"),
        Feed(writers=("fc1",), readers=("fc2",)),
        Feed(writers=("fc2",), readers=(HEAD,), where="then"),
    ),
)
