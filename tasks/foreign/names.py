"""What names say of tensors that other programs wrote."""

import re

FOREIGN = "foreign"
"""What stands for the experiment in the places and the cubes of other programs' checkpoints."""

BUFFERS = re.compile(
    r"(^|\.)(pe|inv_freq|position_ids|masked_bias|attn\.bias|attention\.bias|causal_mask|mask|relative_position_index"
    r"|running_mean|running_var|num_batches_tracked)$"
)
"""Names that libraries give to tensors which are not trained."""

TRANSPOSED = r"tconv|deconv|up_?conv|conv_?transpose"
"""Names that transposed convolutions have; nothing in a file tells them from others."""

FUSED = re.compile(r"in_proj_weight$")
"""The fused projection of `nn.MultiheadAttention`: queries, keys, values, each a third of the rows."""
