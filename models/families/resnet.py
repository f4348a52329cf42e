"""ResNets of torchvision, timm and transformers."""

from specdyn.models.families.base import CONVOLUTION, HEAD, Family, Feed, Rule

HF = "stages.#.layers.#."
LAST = "third|second"
"""The last convolution of a block with two or three."""

FAMILY = Family(
    name="resnet",
    title="ResNet",
    model_types=("resnet",),
    known_by=(
        "layer#.#.conv1.weight|stages.#.layers.#.layer.0.convolution.weight",
        "layer#.#.conv2.weight|stages.#.layers.#.layer.1.convolution.weight",
        "conv1.weight|conv1.0.weight|embedder.embedder.convolution.weight",
    ),
    rules=(
        Rule(pattern=f"layer#.#.conv1.weight|{HF}layer.0.convolution.weight", role=CONVOLUTION, slot="first"),
        Rule(
            pattern=f"layer#.#.conv2.weight|{HF}layer.1.convolution.weight",
            role=CONVOLUTION,
            slot="second",
            after="first",
        ),
        Rule(pattern=f"layer#.#.conv3.weight|{HF}layer.2.convolution.weight", role=CONVOLUTION, slot="third"),
        Rule(
            pattern=f"layer#.#.downsample.0.weight|layer#.#.downsample.1.weight|layer#.#.shortcut.0.weight|{HF}shortcut.convolution.weight",
            role=CONVOLUTION,
            slot="shortcut",
        ),
        Rule(pattern="conv1.weight|conv1.0.weight|embedder.embedder.convolution.weight", role=CONVOLUTION, slot="stem"),
        Rule(pattern="fc.weight|linear.weight|classifier.1.weight", role=HEAD),
    ),
    feeds=(
        Feed(writers=("stem",), readers=("first", "shortcut"), where="then"),
        Feed(writers=("first",), readers=("second",)),
        Feed(writers=("second",), readers=("third",)),
        Feed(writers=(LAST, "shortcut"), readers=("first", "shortcut"), where="next"),
        Feed(writers=(LAST, "shortcut"), readers=(HEAD,), where="then"),
    ),
)
