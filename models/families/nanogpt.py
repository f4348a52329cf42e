"""nanoGPT: the names of GPT-2, with weights stored as (out, in)."""

from dataclasses import replace

from specdyn.models.families.gpt2 import FAMILY as GPT2
from specdyn.models.families.gpt2 import rules

FAMILY = replace(
    GPT2,
    name="nanogpt",
    title="nanoGPT",
    model_types=(),
    stored={"h.#.attn.c_attn.weight": "out_in"},
    rules=rules("out_in"),
)
