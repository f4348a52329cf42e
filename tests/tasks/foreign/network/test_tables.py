"""Pairs of layers given by hand."""

from pathlib import Path

import pytest

from helpers.read import names, of_shapes
from specdyn.tasks.foreign.network.tables import PairTable, read_pairs

SHAPES = {f"blocks.{i}.{one}.weight": (8, 8) for i in range(3) for one in ("a", "b")} | {"wide.weight": (5, 4)}


def table(tmp_path: Path, text: str) -> PairTable:
    (tmp_path / "pairs.txt").write_text(text)
    return read_pairs(str(tmp_path / "pairs.txt"))


def pairs(tmp_path: Path, text: str) -> list[str]:
    return names(of_shapes(SHAPES, pairs=table(tmp_path, text)).pairs)


def test_two_names_a_line(tmp_path: Path) -> None:
    text = "# by hand\nblocks.0.a.weight blocks.2.b.weight\n\nblocks.1.a.weight -> blocks.1.b.weight  # and this\n"
    assert pairs(tmp_path, text) == ["blocks.0.a.weight -> blocks.2.b.weight", "blocks.1.a.weight -> blocks.1.b.weight"]


def test_numbers_and_any_text_of_patterns(tmp_path: Path) -> None:
    inside = [f"blocks.{i}.a.weight -> blocks.{i}.b.weight" for i in range(3)]
    across = [f"blocks.{i}.b.weight -> blocks.{i + 1}.a.weight" for i in range(2)]
    text = "blocks.{n}.a.weight blocks.{n}.b.weight\nblocks.{n}.b.weight blocks.{n+1}.a.weight"
    assert pairs(tmp_path, text) == [*inside, *across]
    assert pairs(tmp_path, "*.a.weight *.b.weight") == inside


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("blocks.0.a.weight", "line 1: expected a writer and a reader, found 'blocks.0.a.weight'"),
        ("one two three", "line 1: expected a writer and a reader"),
        ("# nothing", "no pairs: expected two names"),
        ("blocks.0.a.weight nowhere", "'nowhere' is not a layer; the layers are blocks.0.a.weight"),
        ("blocks.7.a.weight blocks.{n}.b.weight", "no two layers are 'blocks.7.a.weight'"),
        ("wide.weight blocks.0.a.weight", r"wide.weight \(5 x 4\) cannot feed blocks.0.a.weight \(8 x 8\)"),
    ],
)
def test_a_line_that_is_of_no_pair_is_refused(tmp_path: Path, text: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        pairs(tmp_path, text)


def test_a_file_that_is_no_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "pairs.txt").write_bytes(b"\x80\x04\x95")
    with pytest.raises(ValueError, match="not a text file of pairs"):
        read_pairs(str(tmp_path / "pairs.txt"))
