"""What a module of this folder declares: which tensors a family of networks has, how they are cut, what feeds what."""

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
"""Roles of tensors that are no layers, with the reason to give."""

KINDS = {
    EMBEDDING: "embedding",
    **dict.fromkeys((QUERY, KEY, VALUE, OUTPUT), "attention"),
    **dict.fromkeys((GATE, UP, DOWN, LINEAR, ROUTER, "shared gate"), "mlp"),
    CONVOLUTION: "conv",
    RECURRENT: "recurrent",
    HEAD: "output",
}
"""What a layer of a role belongs to, as the coordinate `kind` says it."""

Stored = Literal["out_in", "in_out"]
Cut = Literal["blocks", "grouped", "alternating"]
Where = Literal["same", "next", "then", "each", "all"]

QKV = (QUERY, KEY, VALUE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """The tensors of one kind.

    `pattern` is the end of a name: `#` stands for the number of a block, `@` for that of an expert, `*` for one part
    of a name, and `|` divides alternatives. What stands before it is the stack that the tensor belongs to.
    """

    pattern: str
    role: str
    """What it does; of a fused tensor what its parts do together."""
    slot: str = ""
    """What the family's feeds call it, where a role is there more than once."""
    stored: Stored = "out_in"
    """How the last two axes are kept; of stacked experts the network's width decides, where it tells."""
    experts: bool = False
    """Whether the first axis is that of the experts."""
    heads: bool = False
    """Whether the first axis is that of the heads."""
    gates: bool = False
    """Whether the rows are those of the gates of a recurrent layer, one after another."""
    parts: tuple[str, ...] = ()
    """Roles of the blocks of rows that a fused tensor consists of."""
    cut: Cut = "blocks"
    """`blocks`: the parts follow one another; `grouped`: they do so for each head or group of heads by itself;
    `alternating`: rows of one part alternate with those of the other."""
    ties: bool = False
    """Whether the embedding takes its place where config.json ties the two."""
    after: str = ""
    """The slot of the same block that a convolution reads whole, by which groups are told."""
    sizes: tuple[str, ...] = ()
    """Settings in config.json that give the rows of each part; the last may be missing and has the rest."""

    @property
    def name(self) -> str:
        """The slot, which is the role where none is named."""
        return self.slot or self.role


@dataclass(frozen=True, slots=True, kw_only=True)
class Feed:
    """What one slot writes another reads, in the same block or in a later one."""

    writers: tuple[str, ...]
    """Slots; of alternatives `a|b` the first that is there counts."""
    readers: tuple[str, ...]
    where: Where = "same"
    """`same` block and expert; the `next` block that has the reader; `then`: the last block that has the writer, and
    the first that has the reader; `each`: the last block of the writer and every one of the reader; `all`: every
    writer and every reader, wherever they stand."""
    by_head: bool = False
    """Whether each head's part of the writer is compared with the same head's part of the reader."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """Networks whose tensors have the same names and feed one another in the same way."""

    name: str
    title: str
    rules: tuple[Rule, ...]
    feeds: tuple[Feed, ...]
    known_by: tuple[str, ...]
    """Patterns of names, as in rules, that are all there in every network of the family."""
    stored: Mapping[str, Stored] = field(default_factory=dict)
    """For some of `known_by`: the way round that its tensors are kept, by which families of equal names are told."""
    model_types: tuple[str, ...] = ()
    """Values of `model_type` in config.json, or of `_class_name` for diffusers."""
    fragment: bool = False
    """Whether it is a part that networks of any family may have, and claims nothing beyond itself."""
    feeds_if: Mapping[str, tuple[Feed, ...]] = field(default_factory=dict)
    """Feeds that hold instead where a setting of config.json is true."""
    feeds_unless: Mapping[str, tuple[Feed, ...]] = field(default_factory=dict)
    """Feeds that hold instead where a setting of config.json is there and false."""
    only_with_heads: bool = False
    """Whether its feeds are claimed only where the number of heads is given."""
    kinds: Mapping[str, str] = field(default_factory=dict)
    """What layers of a role belong to, where that is not what KINDS says; of every other role with the key empty."""
    native: str = ""
    """A pattern of names that begin with `model.` without any wrapper."""

    def kind_of(self, role: str, slots: Sequence[str]) -> str:
        """What a layer belongs to, by its role or by the parts that it stands for; empty where that is not known."""
        known = {**KINDS, **self.kinds}
        words = (role, *(slot.rpartition(" ")[2] for slot in slots))
        return next((known[word] for word in words if word in known), known.get("", ""))

    def feeds_for(self, config: Mapping[str, Any]) -> tuple[Feed, ...]:
        """What feeds what, as far as the settings of a network decide it."""
        for setting, feeds in self.feeds_if.items():
            if config.get(setting):
                return feeds
        for setting, feeds in self.feeds_unless.items():
            if setting in config and not config[setting]:
                return feeds
        return self.feeds


class Place(NamedTuple):
    """Where a tensor stands in its network."""

    stack: str
    """What stands before the pattern, as of the encoder or the decoder."""
    block: tuple[int, ...] = ()
    expert: tuple[int, ...] = ()


def place_in(pattern: str, tensor: str) -> Place | None:
    """Where a tensor stands by a pattern of its name; None where the pattern is of others."""
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
    """Queries with keys and values with the output, head by head; and values with the output whole."""
    return (
        Feed(writers=(KEY,), readers=(QUERY,), by_head=True),
        Feed(writers=(VALUE,), readers=feeding),
        Feed(writers=(VALUE,), readers=feeding, by_head=True),
    )


def within(of: str) -> tuple[Feed, ...]:
    """What feeds what inside one attention."""
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
"""A transformer whose MLP reads what attention has written (METHOD 4.4)."""
PARALLEL = (
    Feed(writers=(EMBEDDING,), readers=(*READS_STREAM, GATE, UP), where="then"),
    *attention(),
    *MLP,
    Feed(writers=(OUTPUT, DOWN), readers=(*READS_STREAM, GATE, UP), where="next"),
    Feed(writers=(OUTPUT, DOWN), readers=(HEAD,), where="then"),
)
"""A transformer whose attention and MLP read the same, and write into the next block together."""


def _of_plugin(declared: object, name: str, source: str) -> Family:
    """What a plug-in declares; its source decides nothing, as results are kept by the layers and pairs it led to."""
    return kinds.named(declared, name, Family)


FAMILIES = kinds.Kind(group="families", noun="family", package="specdyn.models.families", checked=_of_plugin)


def family_names() -> list[str]:
    """Names of all families, without importing them."""
    return kinds.names(FAMILIES)


def get_family(name: str) -> Family:
    """The family of that name; ValueError lists the known ones."""
    return kinds.get(FAMILIES, name)


def families() -> list[Family]:
    """All families in the order of their names, without plug-ins that cannot be used."""
    return list(kinds.usable(FAMILIES).values())
