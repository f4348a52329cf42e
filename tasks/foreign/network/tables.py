"""Reads user-supplied pairs of layers: a file with two names, or two patterns, per line."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from specdyn.models.families.base import EMBEDDING, Place
from specdyn.models.nets.matrices import LayerPair, Matrix
from specdyn.storage.access import objects
from specdyn.tasks.foreign.network.anatomy import Shapes
from specdyn.tasks.foreign.network.pairs import fed
from specdyn.tasks.foreign.network.pieces import Piece
from specdyn.tasks.spectra.network_layout import NetworkLayout

NUMBER = re.compile(r"\{(\w+)(?:\+(\d+))?\}")
"""A number in a pattern, such as {n} or {n+1}."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PairTable:
    """Writers and readers by name; `{n}` stands for a number, `{n+1}` for the next one, `*` for any text."""

    lines: tuple[tuple[str, str], ...] = ()
    source: str = ""

    def __bool__(self) -> bool:
        return bool(self.lines)

    def among(self, layout: NetworkLayout, shapes: Shapes) -> tuple[LayerPair, ...]:
        """The pairs of a network's layers; ValueError names a line without matching or fitting layers."""
        layers = {matrix.name: (matrix, role) for matrix, role in zip(layout.layers, layout.roles, strict=True)}
        found = [pair for line in self.lines for pair in self._of(line, layers, shapes)]
        return tuple(dict.fromkeys(found))

    def _of(self, line: tuple[str, str], layers: Mapping[str, tuple[Matrix, str]], shapes: Shapes) -> list[LayerPair]:
        writing, reading = line
        expression, pairs = _expression(writing), list[LayerPair]()
        for name, (matrix, role) in layers.items():
            if not (match := expression.fullmatch(name)):
                continue
            other = _filled(reading, match)
            if other not in layers:
                if writing == name:
                    raise ValueError(f"{self.source}: {other!r} is not a layer; the layers are {_some(layers)}")
                continue  # the last block has no next one
            pair = fed(_piece(matrix, role), _piece(*layers[other]), shapes)
            if pair is None:
                sizes = [" x ".join(map(str, one.shape(shapes[one.parameter]))) for one in (matrix, layers[other][0])]
                raise ValueError(
                    f"{self.source}: {name} ({sizes[0]}) cannot feed {other} ({sizes[1]}): expected as many columns "
                    "of the second as the first has rows"
                )
            pairs.append(pair)
        if not pairs:
            raise ValueError(f"{self.source}: no two layers are {writing!r} and {reading!r}; they are {_some(layers)}")
        return pairs


def read_pairs(url: str) -> PairTable:
    """Read the pairs of a file; ValueError if a line does not have two names."""
    try:
        text = objects.read(url).decode()
    except UnicodeDecodeError:
        raise ValueError(f"{url}: not a text file of pairs: expected two names of layers per line") from None
    lines: list[tuple[str, str]] = []
    for number, line in enumerate(text.splitlines(), start=1):
        words = re.split(r"\s*->\s*|\s{2,}|\t|(?<=\S)\s+(?![^\[]*\])", line.partition("#")[0].strip())
        words = [word for word in words if word]
        if not words:
            continue
        if len(words) != 2:
            raise ValueError(f"{url}, line {number}: expected a writer and a reader, found {line.strip()!r}")
        lines.append((words[0], words[1]))
    if not lines:
        raise ValueError(f"{url}: no pairs: expected two names of layers per line")
    return PairTable(lines=tuple(lines), source=url)


def _expression(pattern: str) -> re.Pattern[str]:
    """A regular expression for a pattern: numbers and arbitrary texts become groups."""
    seen: set[str] = set()
    text, stars = "", 0
    for piece in re.split(r"(\{\w+\}|\*)", pattern):
        if piece == "*":
            text, stars = text + f"(?P<star{stars}>.*?)", stars + 1
        elif name := NUMBER.fullmatch(piece):
            text += f"(?P={name[1]})" if name[1] in seen else rf"(?P<{name[1]}>\d+)"
            seen.add(name[1])
        else:
            text += re.escape(piece)
    return re.compile(text)


def _filled(pattern: str, match: "re.Match[str]") -> str:
    """The reader's name, filled with the writer's match."""
    groups = match.groupdict()
    for star in (name for name in groups if name.startswith("star")):
        pattern = pattern.replace("*", groups[star], 1)
    return NUMBER.sub(
        lambda at: str(int(groups[at[1]]) + int(at[2] or 0)) if groups.get(at[1]) is not None else at[0], pattern
    )


def _piece(matrix: Matrix, role: str) -> Piece:
    embeds = role == EMBEDDING or bool(re.search(r"(^|\.)(wte|\w*embed\w*)\.weight$", matrix.parameter))
    return Piece(matrix=matrix, role=EMBEDDING if embeds else role, slots=("",), place=Place(""), way="")


def _some(layers: Mapping[str, object]) -> str:
    names = list(layers)
    return ", ".join(names[:8]) + (", ..." if len(names) > 8 else "")
