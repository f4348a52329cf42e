"""Names of other programs' tensors that have a known meaning."""

import re

from specdyn.models.nets.decay_sums import SUM, VELOCITY

FOREIGN = "foreign"
"""The experiment name in URLs and cubes of other programs' checkpoints."""

BUFFERS = re.compile(
    r"(^|\.)(pe|inv_freq|position_ids|masked_bias|attn\.bias|attention\.bias|(causal_|attn_|attention_|tri)?mask|IGNORE|tril"
    r"|relative_position_index|relative_coords_table|running_mean|running_var|num_batches_tracked)$"
    rf"|({SUM}|{VELOCITY})$"
)
"""Names of untrained tensors in libraries and in runs with `record_decay`."""

TRANSPOSED = r"tconv|deconv|up_?conv|conv_?transpose"
"""Usual names of transposed convolutions, which are otherwise indistinguishable in a file."""

NO_WEIGHTS = {
    "position or token embeddings": re.compile(
        r"(^|\.)(pos(ition)?(al)?_?emb(ed(ding)?s?)?(_?table)?(\.weight)?|(wpe|embed_positions|position_encoding)\.weight"
        r"|token_type_embeddings\.weight|segment_embeddings\.weight|relative_attention_bias\.weight"
        r"|relative_position_bias_table|rel_pos_[hw]|w_pos"
        r"|(cls|class|dist|distillation|reg|register|mask|query|latent)_(token|embedding)s?)$"
    ),
    "scales of a normalisation": re.compile(r"(^|\.)((layer|group|batch|rms|q_|k_)?norm\d*|ln_?\w{1,3})\.weight$"),
    "biases": re.compile(r"(^|[._])bias(es)?(_[ih]h_l\d+(_reverse)?)?$"),
}
"""Tensors that are not layers whatever their dimensions: reason, and pattern for the lower-case name."""
