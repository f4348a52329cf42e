"""Reads many objects at a time."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

from specdyn.storage.access import objects

AT_ONCE = 32
"""The most objects read concurrently."""


def read_each(urls: Sequence[str]) -> Iterator[tuple[str, bytes | None]]:
    """URL and content of each object, AT_ONCE held in memory at a time; None where there is none.

    StoreError names the first object that could not be read.
    """
    for start in range(0, len(urls), AT_ONCE):
        batch = urls[start : start + AT_ONCE]
        yield from zip(batch, map(_content, batch, _answers(batch)), strict=True)


def _answers(urls: Sequence[str]) -> Sequence[bytes | BaseException]:
    """The content of each object, or the error of reading it."""
    if not objects.is_local(urls[0]):
        with objects.explained(urls[0]):
            answers: list[bytes | BaseException] = objects.filesystem(urls[0]).read_each(urls)
            return answers
    if len(urls) == 1:
        return [_answer(urls[0])]
    with ThreadPoolExecutor(min(AT_ONCE, len(urls))) as pool:
        return list(pool.map(_answer, urls))


def _answer(url: str) -> bytes | BaseException:
    try:
        return objects.read(url)
    except Exception as error:  # noqa: BLE001 - raised for this object when it is its turn
        return error


def _content(url: str, answer: bytes | BaseException) -> bytes | None:
    if not isinstance(answer, BaseException):
        return answer
    try:
        with objects.explained(url):
            raise answer
    except FileNotFoundError:
        return None
