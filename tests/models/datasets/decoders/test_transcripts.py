"""Greedy decoding and error rates by hand and against the textbook recursion (METHOD 1.4)."""

from functools import cache

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from specdyn.models.datasets.decoders.transcripts import decode, edit_distances, errors, spoken, words

BLANK, SPACE, A, B, C = 0, 2, 3, 4, 5
ROWS = st.lists(st.integers(3, 6), max_size=7)


def frames(*symbols: int, of: int = 6) -> torch.Tensor:
    """Outputs (1, T, K) whose likeliest symbols are these."""
    return torch.nn.functional.one_hot(torch.tensor([symbols]), of).float().log()


@pytest.mark.parametrize(
    ("path", "read"),
    [
        ((A, A, A), [A]),
        ((A, BLANK, A), [A, A]),
        ((BLANK, A, A, BLANK, BLANK, B, B, SPACE), [A, B, SPACE]),
        ((BLANK, BLANK), []),
        ((A, B, A), [A, B, A]),
        ((1, BLANK, A), [1, A]),  # the unknown character is one too
    ],
)
def test_repeats_collapse_and_blanks_are_dropped(path: tuple[int, ...], read: list[int]) -> None:
    assert decode(frames(*path)) == [read]


def test_padding_is_no_part_of_a_transcript() -> None:
    assert spoken(torch.tensor([[A, B, -1, -1], [C, SPACE, A, -1]])) == [[A, B], [C, SPACE, A]]


def test_words_stand_between_spaces() -> None:
    assert words([SPACE, A, B, SPACE, SPACE, C, SPACE]) == [(A, B), (C,)]
    assert words([]) == []


def levenshtein(a: tuple[int, ...], b: tuple[int, ...]) -> int:
    @cache
    def of(i: int, j: int) -> int:
        if not i or not j:
            return i + j
        return min(of(i - 1, j) + 1, of(i, j - 1) + 1, of(i - 1, j - 1) + (a[i - 1] != b[j - 1]))

    return of(len(a), len(b))


@given(st.lists(st.tuples(ROWS, ROWS), min_size=1, max_size=6))
def test_distances_follow_the_recursion(pairs: list[tuple[list[int], list[int]]]) -> None:
    a, b = zip(*pairs, strict=True)
    assert edit_distances(a, b).tolist() == [levenshtein(tuple(x), tuple(y)) for x, y in pairs]


@pytest.mark.parametrize(
    ("a", "b", "distance"), [("kitten", "sitting", 3), ("", "abc", 3), ("abc", "", 3), ("", "", 0), ("flaw", "lawn", 2)]
)
def test_known_distances(a: str, b: str, distance: int) -> None:
    assert edit_distances([[ord(x) for x in a]], [[ord(x) for x in b]]).tolist() == [distance]


def test_errors_are_summed_over_utterances() -> None:
    said, heard = [[A, B, C], [A]], [[A, C], [B, B]]
    # one deletion of three; a substitution and an insertion of one
    assert errors(said, heard).tolist() == [3, 4]


def test_errors_of_words_compare_whole_words() -> None:
    said, heard = [A, B, SPACE, C, SPACE, A], [A, B, SPACE, C, C, SPACE, A]
    assert errors([words(said)], [words(heard)]).tolist() == [1, 3]
