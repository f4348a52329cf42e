"""The grokking literature's own code: the names of TransformerLens, with weights stored as (out, in)."""

from dataclasses import replace

from specdyn.models.families.transformer_lens import AT, rules
from specdyn.models.families.transformer_lens import FAMILY as LENS

FAMILY = replace(
    LENS, name="grokking", title="the grokking literature's code", stored={AT + "W_Q": "out_in"}, rules=rules("out_in")
)
