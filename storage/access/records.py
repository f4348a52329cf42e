"""Records that several processes change: a series of numbered versions, each written once and never replaced.

The first version is the object at the record's URL, `x.json`; the next ones are `x.versions/00000002.json` and so on.
A writer that loses the race for a number reads again, applies its change and takes the next number: no change is
lost. One whose answer got lost recognises its own version (`objects.create`): no change is made twice. On a store
that ignores If-None-Match (`specdyn storage check` tells), the last writer of a number wins.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

from specdyn.storage.access import objects
from specdyn.storage.access.listing import listing_below
from specdyn.storage.access.many import read_each

KEPT = 8
"""Newest versions that keep their content; older ones are emptied, so that no slow writer reuses their number."""
ENDED = b"null"
"""Content of the newest version of a record that is being removed; readers treat it as missing."""

LATER = ".versions"
"""Suffix of the folder with later versions."""
NUMBERED = re.compile(r"(\d{8})\.json")

Change = Callable[[bytes | None], bytes | None]
"""Returns the next content from the newest, or None to leave it; called again if another process was faster."""


class Version(NamedTuple):
    """The newest version of a record, according to a listing."""

    number: int
    tag: str
    """Tag of its content: a different one means that it may have changed."""


def read_record(url: str, newest: Mapping[str, Version] | None = None) -> bytes | None:
    """The newest version; None if there is no record. One listing and one request.

    With `newest` (from `versions_below`) it needs no listing, and no request if the record is not in it.
    """
    if newest is None:
        return _newest(url)[1]
    return dict(read_records([url], newest)).get(url)


def read_records(urls: Sequence[str], newest: Mapping[str, Version]) -> Iterator[tuple[str, bytes | None]]:
    """The newest version of each of these records that `newest` lists, many read at a time; None for one that ended."""
    there = [url for url in urls if url in newest]
    contents = read_each([_place(url, newest[url].number) for url in there])
    for url, (_, content) in zip(there, contents, strict=True):
        # An empty or missing one was replaced since the listing.
        yield url, None if content == ENDED else content or _newest(url)[1]


def versions_below(folder: str, most: int | None = None) -> dict[str, Version]:
    """The newest version of every record in a folder, by the record's URL; see `listing_below` for `most`."""
    newest: dict[str, Version] = {}
    for path, found in listing_below(folder, most).items():
        name, _, version = path.partition(LATER + "/")
        match = NUMBERED.fullmatch(version)
        url, number = (f"{folder}/{name}.json", int(match[1])) if match else (f"{folder}/{path}", 1)
        newest[url] = max(Version(number, found.tag), newest.get(url, Version(0, "")))
    return newest


def change_record(url: str, change: Change) -> bytes | None:
    """Apply `change` to the newest version and write the result as the next; returns the resulting content."""
    while True:
        number, before = _newest(url)
        after = change(before)
        if after is None or after == before:
            return before
        if objects.create(_place(url, number + 1), after):
            _forget(url, number + 1 - KEPT)
            return after


def end_record(url: str) -> bool:
    """Make the record disappear for all readers with one PUT; False if there was none.

    `delete_record` then removes its versions.
    """
    while True:
        number, content = _newest(url)
        if content is None:
            return False
        if objects.create(_place(url, number + 1), ENDED):
            return True


def is_ended(url: str) -> bool:
    """Whether a record was ended but some of its versions remain."""
    try:
        return objects.read(newest_place(url)) == ENDED
    except FileNotFoundError:
        return False


def delete_record(url: str) -> None:
    """Remove every version of a record, the newest last, so that an ended record stays ended throughout."""
    last = _last_number(url)
    for number in (*range(1, last), last):
        objects.delete(_place(url, number))
    objects.delete(_later(url))


def newest_place(url: str) -> str:
    """URL of the newest version: the object to inspect or delete if it is damaged."""
    return _place(url, _last_number(url))


def _newest(url: str) -> tuple[int, bytes | None]:
    """Number and content of the newest version; 0 and None if there is none."""
    number = _last_number(url)
    while True:
        try:
            content = objects.read(_place(url, number))
        except FileNotFoundError:
            if number == 1:
                return 0, None
            content = b""  # the record is being deleted
        newer = number if content else _last_number(url)
        if newer == number:
            return number, None if content == ENDED else content
        number = newer  # so many versions were added since the listing that this one was emptied


def _last_number(url: str) -> int:
    found = (NUMBERED.fullmatch(name) for name in objects.names(_later(url)))
    return max((int(match[1]) for match in found if match), default=1)


def _forget(url: str, number: int) -> None:
    """Empty an old version; the first keeps its content, as listings find records by its name."""
    if number > 1:
        objects.empty(_place(url, number))


def _later(url: str) -> str:
    return f"{url.removesuffix('.json')}{LATER}"


def _place(url: str, number: int) -> str:
    return url if number == 1 else f"{_later(url)}/{number:08d}.json"
