"""Text is cleaned, tokenised and cut as published (METHOD 1.5)."""

import gzip
import importlib.util
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from helpers.packaged_samples import sample_lines, save_tokens, train_tokenizer
from specdyn.models.datasets.decoders.text import (
    Tokens,
    chunks,
    clean,
    load_sample,
    load_tokenizer,
    read_lines,
    tokenise,
)
from specdyn.models.datasets.samples import FOLDER

needs_tokenizers = pytest.mark.skipif(
    importlib.util.find_spec("tokenizers") is None, reason="needs tokenizers: pip install 'specdyn[text]'"
)
needs_pyarrow = pytest.mark.skipif(
    importlib.util.find_spec("pyarrow") is None, reason="needs pyarrow: pip install 'specdyn[hub]'"
)
CORPUS = ["the cat sat on the mat\n", "", "The Dog, too.\n"] * 20


@dataclass
class Encoding:
    ids: list[int]


class Letters:
    """A tokenizer of one id a character, with one added token beyond its alphabet."""

    def __init__(self, added: int = 200) -> None:
        self.added = added

    def get_vocab(self, with_added_tokens: bool) -> dict[str, int]:
        letters = {chr(number): number for number in range(128)}
        return letters | {"<added>": self.added} if with_added_tokens else letters

    def encode_batch(self, lines: list[str], add_special_tokens: bool) -> list[Encoding]:
        assert not add_special_tokens
        return [Encoding([ord(character) for character in line]) for line in lines]


@pytest.mark.parametrize(
    ("line", "cleaned"),
    [
        (" = Robert <unk> = \n", "  robert unk  \n"),
        ("It 's 1,000 @-@ km²\tÉtude_!\n", "it s 1000  km²\tétude\n"),
        ("", ""),
        ("...", ""),
    ],
)
def test_lines_keep_letters_digits_and_white_space(line: str, cleaned: str) -> None:
    assert clean(line) == cleaned


@pytest.mark.parametrize("name", ["a.txt", "a.txt.gz"])
@pytest.mark.parametrize(
    ("content", "lines"),
    [
        ("one\n \n\ntwo\u2028x\r\n", ["one\n", "", "", "two\u2028x\r\n"]),
        ("one\ntwo", ["one\n", "two\n"]),
        ("", []),
        ("\n", [""]),
    ],
)
def test_lines_are_read_with_their_newline_and_blank_ones_stay(
    tmp_path: Path, name: str, content: str, lines: list[str]
) -> None:
    raw = content.encode()
    (tmp_path / name).write_bytes(gzip.compress(raw) if name.endswith("gz") else raw)
    assert read_lines(tmp_path / name) == lines


@needs_pyarrow
def test_rows_of_parquet_are_read(tmp_path: Path) -> None:
    import pyarrow  # type: ignore[import-not-found, unused-ignore]
    from pyarrow import parquet

    rows = ["", " = Title = \n", None, "words \n"]
    parquet.write_table(pyarrow.table({"id": [1, 2, 3, 4], "text": rows}), tmp_path / "a.parquet")
    assert read_lines(tmp_path / "a.parquet") == ["", " = Title = \n", "", "words \n"]


@pytest.mark.parametrize("name", ["a.txt", "a.txt.gz"])
def test_text_that_is_not_utf8_is_named_with_its_line(tmp_path: Path, name: str) -> None:
    raw = b"good\n\nbad \xff\nworse \xfe\n"
    (tmp_path / name).write_bytes(gzip.compress(raw) if name.endswith("gz") else raw)
    with pytest.raises(ValueError, match=rf"{name}, line 3: expected UTF-8, found byte 0xff$"):
        read_lines(tmp_path / name)


def test_a_damaged_gzip_is_named(tmp_path: Path) -> None:
    packed = gzip.compress(np.random.default_rng(0).bytes(1_000))
    for damaged in (packed[:500], packed[:500] + bytes([packed[500] ^ 1]) + packed[501:], b"plain text"):
        (tmp_path / "a.txt.gz").write_bytes(damaged)
        with pytest.raises(
            ValueError, match=r"a.txt.gz: the gzip stream is damaged or cut short \(.*; fetch it again$"
        ):
            read_lines(tmp_path / "a.txt.gz")


def test_tokens_are_joined_within_groups_of_lines() -> None:
    tokens = tokenise(["Ab", "", "c!", "d", "ef"], Letters(), group=2)
    assert tokens.ids.tolist() == list(b"abcdef")
    assert tokens.group_offset.tolist() == [0, 2, 4, 6]
    assert tokens.vocabulary == 201


@pytest.mark.parametrize(("largest", "dtype"), [(65_535, np.uint16), (65_536, np.int32)])
def test_the_type_holds_the_largest_id(largest: int, dtype: type) -> None:
    tokens = tokenise(["ab"], Letters(added=largest))
    assert (tokens.ids.dtype, tokens.vocabulary) == (dtype, largest + 1)


def tokens_of(*groups: int) -> Tokens:
    return Tokens(
        ids=np.arange(sum(groups), dtype=np.uint16), group_offset=np.cumsum([0, *groups]), vocabulary=sum(groups)
    )


def test_blocks_are_cut_within_groups_and_remainders_dropped() -> None:
    blocks = chunks(tokens_of(7, 2, 3), length=2)
    assert blocks.tolist() == [[0, 1, 2], [3, 4, 5], [9, 10, 11]]
    assert blocks.dtype == np.uint16


@given(groups=st.lists(st.integers(0, 40), min_size=1, max_size=6), length=st.integers(1, 12))
def test_blocks_hold_consecutive_ids_of_one_group(groups: list[int], length: int) -> None:
    tokens = tokens_of(*groups)
    if max(groups) <= length:
        with pytest.raises(
            ValueError, match=rf"^length={length} is not allowed: expected less than {max(groups)}, the"
        ):
            chunks(tokens, length)
        return
    blocks = chunks(tokens, length).astype(int)
    assert blocks.shape == (sum(group // (length + 1) for group in groups), length + 1)
    assert (np.diff(blocks, axis=1) == 1).all()
    group = np.searchsorted(tokens.group_offset, blocks, side="right")
    assert (group == group[:, :1]).all()
    assert len(np.unique(blocks)) == blocks.size


def test_a_block_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^length=0 is not allowed: expected 1 or more$"):
        chunks(tokens_of(5), 0)


@needs_tokenizers
def test_a_trained_tokenizer_is_the_same_each_time_and_loses_nothing(tmp_path: Path) -> None:
    first, again = (train_tokenizer(CORPUS, 280) for _ in range(2))
    assert first.to_str() == again.to_str()
    # the words of so small a corpus make fewer than 24 pairs worth a merge, or just as many
    assert 256 < first.get_vocab_size() <= 280
    tokens = tokenise(CORPUS, first)
    text = "".join(map(clean, CORPUS))
    assert first.decode(tokens.ids.tolist()) == text
    assert len(tokens.ids) < len(text)
    first.save(str(tmp_path / "tokenizer.json"))
    loaded = tokenise(CORPUS, load_tokenizer(tmp_path / "tokenizer.json"))
    np.testing.assert_array_equal(loaded.ids, tokens.ids, strict=True)


@needs_tokenizers
def test_added_tokens_count_in_the_size_of_the_embedding() -> None:
    tokenizer = train_tokenizer(CORPUS, 260)
    size = tokenizer.get_vocab_size()
    tokenizer.add_tokens(["   "])
    assert tokenise(["a   b"], tokenizer).vocabulary == size + 1
    assert tokenise(["a   b"], tokenizer).ids.max() == size


@pytest.mark.parametrize(("module", "extra"), [("tokenizers", "text"), ("pyarrow.parquet", "hub")])
def test_the_extra_is_named_where_a_library_is_absent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: str, extra: str
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ImportError, match=rf"needs '{module}': install it with `pip install 'specdyn\[{extra}\]'`$"):
        read_lines(tmp_path / "a.parquet") if extra == "hub" else load_tokenizer(tmp_path / "a.json")


def test_saved_tokens_are_loaded_as_they_were(tmp_path: Path) -> None:
    train, validation = tokens_of(7, 2), tokens_of(3)
    save_tokens(tmp_path / "devils_dictionary.bpe512.npz", train=train, validation=validation)
    for saved, loaded in zip((train, validation), load_sample(tmp_path), strict=True):
        np.testing.assert_array_equal(loaded.ids, saved.ids, strict=True)
        np.testing.assert_array_equal(loaded.group_offset, saved.group_offset, strict=True)
        assert loaded.vocabulary == saved.vocabulary


def test_the_shipped_text_has_no_header_and_no_index() -> None:
    train, validation = sample_lines()
    assert train[0].strip() == "PREFACE"
    assert train[2].startswith("_The Devil's Dictionary_ was begun in a weekly paper")
    assert len(train) == 8_000
    assert validation[-2] == "Nature_) that the domestic cow sheds its horn every two years.\n"
    assert any(line.startswith("ZIGZAG") for line in validation)


def test_the_shipped_tokens_make_blocks() -> None:
    train, validation = load_sample()
    assert (train.vocabulary, validation.vocabulary, train.ids.dtype) == (512, 512, np.uint16)
    assert max(train.ids.max(), validation.ids.max()) < 512
    assert (len(train.group_offset), len(validation.group_offset)) == (9, 2)
    assert chunks(train, 64).shape == (int((np.diff(train.group_offset) // 65).sum()), 65)
    assert len(chunks(train, 64)) > 2_000 and len(chunks(validation, 64)) > 100


@needs_tokenizers
def test_the_shipped_tokens_match_the_shipped_text() -> None:
    tokenizer = load_tokenizer(FOLDER / "devils_dictionary.bpe512.json")
    for lines, shipped in zip(sample_lines(), load_sample(), strict=True):
        tokens = tokenise(lines, tokenizer)
        np.testing.assert_array_equal(tokens.ids, shipped.ids, strict=True)
        np.testing.assert_array_equal(tokens.group_offset, shipped.group_offset, strict=True)
        assert tokens.vocabulary == shipped.vocabulary
        assert tokenizer.decode(shipped.ids.tolist()) == "".join(map(clean, lines))


@needs_tokenizers
def test_the_shipped_tokenizer_is_trained_on_the_training_text() -> None:
    trained = train_tokenizer(sample_lines()[0], 512)
    shipped = load_tokenizer(FOLDER / "devils_dictionary.bpe512.json")
    assert trained.get_vocab() == shipped.get_vocab()
