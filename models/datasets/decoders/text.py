"""Text as published: cleaned, tokenised, and cut into blocks within groups of lines (METHOD 1.5)."""

import gzip
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from specdyn.models.datasets.decoders.extras import require_extra
from specdyn.models.datasets.samples import FOLDER
from specdyn.models.spec.checks import require

GROUP = 1000
"""Lines that are joined before cutting."""

Ids = npt.NDArray[np.uint16 | np.int32]


@dataclass(frozen=True, slots=True, kw_only=True)
class Tokens:
    """Token ids of all lines, end to end; group g is `ids[group_offset[g]:group_offset[g + 1]]`."""

    ids: Ids
    """(tokens,), uint16 if the vocabulary fits, else int32"""
    group_offset: npt.NDArray[np.int64]
    """(groups + 1,)"""
    vocabulary: int
    """Rows that an embedding needs: the largest id of the tokenizer, including added tokens, plus one."""


def clean(line: str) -> str:
    """The line in lower case, reduced to letters, digits and white space; `<unk>` becomes `unk`."""
    return "".join(character for character in line.lower() if character.isalnum() or character.isspace())


def read_lines(path: Path) -> list[str]:
    """Lines of a `.txt`, `.txt.gz` or `.parquet` (its column `text`) file, each with its newline, blank ones as "".

    Blank lines are kept, since they count in the groups. ValueError names the file, and the line that is not UTF-8.
    """
    if path.suffix == ".parquet":
        parquet = require_extra("pyarrow.parquet", "hub", "reading parquet")
        rows = parquet.read_table(path, columns=["text"])["text"].to_pylist()
        return [row or "" for row in rows]
    content = path.read_bytes()
    if path.suffix == ".gz":
        try:
            content = gzip.decompress(content)
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise ValueError(f"{path}: the gzip stream is damaged or cut short ({error}); fetch it again") from error
    try:
        lines = content.decode().split("\n")
    except UnicodeDecodeError as error:
        number = content.count(b"\n", 0, error.start) + 1
        raise ValueError(f"{path}, line {number}: expected UTF-8, found byte {content[error.start]:#04x}") from None
    if not lines[-1]:
        lines.pop()
    return [line + "\n" if line.strip() else "" for line in lines]


def load_tokenizer(path: Path) -> Any:
    """The tokenizer of a `tokenizer.json`; ImportError, naming the extra, if the library is missing."""
    return require_extra("tokenizers", "text", "tokenising").Tokenizer.from_file(str(path))


def tokenise(lines: Sequence[str], tokenizer: Any, group: int = GROUP) -> Tokens:
    """Token ids of the cleaned lines without special tokens, joined within groups of lines."""
    vocabulary = max(tokenizer.get_vocab(with_added_tokens=True).values()) + 1
    dtype = np.uint16 if vocabulary <= 2**16 else np.int32
    groups = []
    for start in range(0, len(lines), group):
        cleaned = [clean(line) for line in lines[start : start + group]]
        encoded = tokenizer.encode_batch(cleaned, add_special_tokens=False)
        groups.append(np.array([number for line in encoded for number in line.ids], dtype))
    offset = np.cumsum([0, *map(len, groups)], dtype=np.int64)
    return Tokens(ids=np.concatenate([np.empty(0, dtype), *groups]), group_offset=offset, vocabulary=vocabulary)


def chunks(tokens: Tokens, length: int) -> Ids:
    """Blocks (N, length + 1) of ids, cut within each group; the remainder of a group is dropped.

    The first `length` ids of a block are the input, the last `length` the targets. ValueError if no group holds one.
    """
    require(length >= 1, "length", length, "1 or more")
    parts = np.split(tokens.ids, tokens.group_offset[1:-1])
    blocks = [part[: len(part) // (length + 1) * (length + 1)].reshape(-1, length + 1) for part in parts]
    longest = max(map(len, parts))
    require(longest > length, "length", length, f"less than {longest}, the tokens of the longest group of lines")
    return np.concatenate(blocks)


def load_sample(folder: Path = FOLDER) -> tuple[Tokens, Tokens]:
    """Training and validation tokens of the Devil's Dictionary, BPE of 512 ids; needs no tokenizer."""
    with np.load(folder / "devils_dictionary.bpe512.npz", allow_pickle=False) as file:
        train, validation = (
            Tokens(
                ids=file[f"{name}_ids"],
                group_offset=file[f"{name}_group_offset"],
                vocabulary=int(file[f"{name}_vocabulary"]),
            )
            for name in ("train", "validation")
        )
    return train, validation
