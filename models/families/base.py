"""Family: the declaration of a family's tensors, how they are split into matrices, and which feed which."""

import functools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from specdyn.models.plugins import kinds

EMBEDDING, HEAD, ROUTER = "embedding", "head", "router"
QUERY, KEY, VALUE, OUTPUT = "query", "key", "value", "output"
GATE, UP, DOWN, LINEAR = "gate", "up", "down", "linear"
CONVOLUTION, DEPTHWISE, RECURRENT = "convolution", "depthwise convolution", "recurrent"
NORMALISATION, POSITION, BUFFER, BIAS, TABLE = "normalisation", "position", "buffer", "bias", "table"
FUSED = "fused"
NO_LAYERS = {
    NORMALISATION: "scales of a normalisation",
    POSITION: "position embeddings",
    BIAS: "biases",
    DEPTHWISE: "a kernel a channel (depthwise): vectors, which mix no channels",
    BUFFER: "a buffer by its name, which is not trained",
    TABLE: "a table of learned numbers that multiplies no activations",
}
"""Roles of tensors that are not layers, with the reason shown to users."""

KINDS = {
    EMBEDDING: "embedding",
    **dict.fromkeys((QUERY, KEY, VALUE, OUTPUT), "attention"),
    **dict.fromkeys((GATE, UP, DOWN, LINEAR, ROUTER, "shared gate"), "mlp"),
    CONVOLUTION: "conv",
    RECURRENT: "recurrent",
    HEAD: "output",
}
"""The value of the coordinate `kind` for each role."""

Stored = Literal["out_in", "in_out"]
Cut = Literal["blocks", "grouped", "alternating"]
Where = Literal["same", "next", "then", "each", "all"]

QKV = (QUERY, KEY, VALUE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """The tensors of one kind.

    `pattern` matches the end of a name: `#` stands for a block number, `@` for an expert number, `*` for one part
    of a name, and `|` separates alternatives. The part before it is the stack to which the tensor belongs.
    """

    pattern: str
    role: str
    """The role; for a fused tensor the role of its parts together."""
    slot: str = ""
    """Its name in the family's feeds, if a role occurs more than once."""
    stored: Stored = "out_in"
    """Order of the last two axes; for stacked experts the network's width decides, if it is unambiguous."""
    experts: bool = False
    """Whether the first axis indexes experts."""
    heads: bool = False
    """Whether the first axis indexes heads."""
    gates: bool = False
    """Whether the rows are the gates of a recurrent layer, in sequence."""
    parts: tuple[str, ...] = ()
    """Roles of the blocks of rows in a fused tensor."""
    cut: Cut = "blocks"
    """`blocks`: the parts follow one another; `grouped`: they do so within each head or group of heads;
    `alternating`: rows of one part alternate with rows of the other."""
    ties: bool = False
    """Whether the embedding replaces it if config.json ties the two."""
    after: str = ""
    """The slot in the same block that a convolution reads completely, from which its groups follow."""
    sizes: tuple[str, ...] = ()
    """Settings in config.json with the rows of each part; the last may be missing and takes the rest."""

    @property
    def name(self) -> str:
        """The slot, by default the role."""
        return self.slot or self.role


@dataclass(frozen=True, slots=True, kw_only=True)
class Feed:
    """One slot reads what another writes, in the same block or a later one."""

    writers: tuple[str, ...]
    """Slots; of alternatives `a|b` the first that exists counts."""
    readers: tuple[str, ...]
    where: Where = "same"
    """`same` block and expert; the `next` block that has the reader; `then`: the last block that has the writer, and
    the first that has the reader; `each`: the last block of the writer and every one of the reader; `all`: every
    writer and every reader, wherever they stand."""
    by_head: bool = False
    """Whether each head's part of the writer is compared with the same head's part of the reader."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """Networks with the same tensor names and the same connections between layers."""

    name: str
    title: str
    rules: tuple[Rule, ...]
    feeds: tuple[Feed, ...]
    known_by: tuple[str, ...]
    """Patterns of names, as in rules; every network of the family matches all of them."""
    stored: Mapping[str, Stored] = field(default_factory=dict)
    """For some of `known_by`: the order of its axes, which distinguishes families with equal names."""
    model_types: tuple[str, ...] = ()
    """Values of `model_type` in config.json, or of `_class_name` for diffusers."""
    fragment: bool = False
    """Whether it describes a component that networks of any family may contain."""
    feeds_if: Mapping[str, tuple[Feed, ...]] = field(default_factory=dict)
    """Feeds that apply instead if a setting of config.json is true."""
    feeds_unless: Mapping[str, tuple[Feed, ...]] = field(default_factory=dict)
    """Feeds that apply instead if a setting of config.json exists and is false."""
    only_with_heads: bool = False
    """Whether its feeds apply only if the number of heads is known."""
    kinds: Mapping[str, str] = field(default_factory=dict)
    """Overrides of KINDS by role; an empty key applies to every other role."""
    native: str = ""
    """A pattern for names that begin with `model.` without any wrapper."""

    def kind_of(self, role: str, slots: Sequence[str]) -> str:
        """The kind of a layer, by its role or by the slots of its parts; empty if unknown."""
        known = {**KINDS, **self.kinds}
        words = (role, *(slot.rpartition(" ")[2] for slot in slots))
        return next((known[word] for word in words if word in known), known.get("", ""))

    def feeds_for(self, config: Mapping[str, Any]) -> tuple[Feed, ...]:
        """The feeds for a network with this config.json."""
        for setting, feeds in self.feeds_if.items():
            if config.get(setting):
                return feeds
        for setting, feeds in self.feeds_unless.items():
            if setting in config and not config[setting]:
                return feeds
        return self.feeds


class Place(NamedTuple):
    """The position of a tensor in its network."""

    stack: str
    """The part of the name before the pattern, such as the encoder or decoder."""
    block: tuple[int, ...] = ()
    expert: tuple[int, ...] = ()


def place_in(pattern: str, tensor: str) -> Place | None:
    """The position of a tensor by a pattern for its name; None if the pattern does not match."""
    for alternative in _compiled(pattern):
        if found := alternative.fullmatch(tensor):
            numbers = {group: int(text) for group, text in found.groupdict().items() if group != "stack"}
            expert = (numbers.pop("expert"),) if "expert" in numbers else ()
            return Place(found["stack"] or "", tuple(numbers.values()), expert)
    return None


@functools.cache
def _compiled(pattern: str) -> tuple[re.Pattern[str], ...]:
    found = []
    for one in pattern.split("|"):
        first, *others = re.escape(one).replace(r"\*", "[^.]+").replace("@", r"(?P<expert>\d+)").split(r"\#")
        numbered = [rf"(?P<block{i}>\d+){text}" for i, text in enumerate(others)]
        found.append(re.compile(r"(?P<stack>(?:.*\.)?)" + "".join([first, *numbered])))
    return tuple(found)


def attention(*, feeding: tuple[str, ...] = (OUTPUT,)) -> tuple[Feed, ...]:
    """Queries with keys and values with the output, per head; and values with the output as whole matrices."""
    return (
        Feed(writers=(KEY,), readers=(QUERY,), by_head=True),
        Feed(writers=(VALUE,), readers=feeding),
        Feed(writers=(VALUE,), readers=feeding, by_head=True),
    )


def within(of: str) -> tuple[Feed, ...]:
    """The feeds within one attention."""
    return (
        Feed(writers=(f"{of} {KEY}",), readers=(f"{of} {QUERY}",), by_head=True),
        Feed(writers=(f"{of} {VALUE}",), readers=(f"{of} {OUTPUT}",)),
        Feed(writers=(f"{of} {VALUE}",), readers=(f"{of} {OUTPUT}",), by_head=True),
    )


READS_STREAM = (QUERY, KEY, VALUE)
MLP = (Feed(writers=(GATE, UP), readers=(DOWN,)),)
SEQUENTIAL = (
    Feed(writers=(EMBEDDING,), readers=READS_STREAM, where="then"),
    *attention(),
    Feed(writers=(OUTPUT,), readers=(GATE, UP, ROUTER)),
    *MLP,
    Feed(writers=(DOWN,), readers=READS_STREAM, where="next"),
    Feed(writers=(DOWN,), readers=(HEAD,), where="then"),
)
"""A transformer whose MLP reads the output of attention (METHOD 4.4)."""
PARALLEL = (
    Feed(writers=(EMBEDDING,), readers=(*READS_STREAM, GATE, UP), where="then"),
    *attention(),
    *MLP,
    Feed(writers=(OUTPUT, DOWN), readers=(*READS_STREAM, GATE, UP), where="next"),
    Feed(writers=(OUTPUT, DOWN), readers=(HEAD,), where="then"),
)
"""A transformer with parallel attention and MLP: same input, summed output."""


def _of_plugin(declared: object, name: str, source: str) -> Family:
    """The family of a plug-in; its source is ignored, since results depend only on the resulting layers and pairs."""
    return kinds.named(declared, name, Family)


FAMILIES = kinds.Kind(group="families", noun="family", package="specdyn.models.families", checked=_of_plugin)


def family_names() -> list[str]:
    """Names of all families, without importing them."""
    return kinds.names(FAMILIES)


def get_family(name: str) -> Family:
    """The family of that name; ValueError lists the known ones."""
    return kinds.get(FAMILIES, name)


def families() -> list[Family]:
    """All families sorted by name, without unusable plug-ins."""
    return list(kinds.usable(FAMILIES).values())
