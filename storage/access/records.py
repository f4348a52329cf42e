"""Records that several processes read, change and write: a row of numbered versions, each put once and never replaced.

The first version is the object at the record's URL, `x.json`; the next ones are `x.versions/00000002.json` and so on.
Who loses a number reads again, changes what is there by then, and takes the next number: nothing is lost. Who put a
version and lost the answer knows it again (`objects.create`), so that no change is made twice. On a store
that ignores If-None-Match, as `specdyn storage check` tells, the last writer of a number wins.
"""

import contextlib
import re
from collections.abc import Callable, Mapping
from typing import NamedTuple

from specdyn.storage.access import objects
from specdyn.storage.access.listing import listing_below

KEPT = 8
"""Newest versions whose content stays; of older ones the number stays, empty, so that no slow writer takes it again."""
ENDED = b"null"
"""The content of the newest version of a record that is being removed: as good as none."""

LATER = ".versions"
"""How the name of the folder of later versions ends."""
NUMBERED = re.compile(r"(\d{8})\.json")

Change = Callable[[bytes | None], bytes | None]
"""Gives the next content from the newest, or None to leave it; called again where another process was faster."""


class Version(NamedTuple):
    """The newest version of a record, as a listing tells it."""

    number: int
    tag: str
    """Of its content: another one where this may have changed."""


def read_record(url: str, newest: Mapping[str, Version] | None = None) -> bytes | None:
    """The newest version; None where there is no record. A listing and a request.

    No listing where `newest` has what `versions_below` found, and no request where the record is not among it.
    """
    if newest is None:
        return _newest(url)[1]
    if url not in newest:
        return None
    with contextlib.suppress(FileNotFoundError):
        if content := objects.read(_place(url, newest[url].number)):
            return content
    return _newest(url)[1]  # it was replaced since


def versions_below(folder: str) -> dict[str, Version]:
    """The newest version of every record in a folder, by the record's URL; one request for 1,000 on object storage."""
    newest: dict[str, Version] = {}
    for path, found in listing_below(folder).items():
        name, _, version = path.partition(LATER + "/")
        match = NUMBERED.fullmatch(version)
        url, number = (f"{folder}/{name}.json", int(match[1])) if match else (f"{folder}/{path}", 1)
        newest[url] = max(Version(number, found.tag), newest.get(url, Version(0, "")))
    return newest


def change_record(url: str, change: Change) -> bytes | None:
    """Put what `change` makes of the newest version as the next one; returns the content that stands afterwards."""
    while True:
        number, before = _newest(url)
        after = change(before)
        if after is None or after == before:
            return before
        if objects.create(_place(url, number + 1), after):
            _forget(url, number + 1 - KEPT)
            return after


def end_record(url: str) -> bool:
    """Have everybody find no record from now on, with one PUT; False where there was none.

    `delete_record` then removes its versions.
    """
    while True:
        number, content = _newest(url)
        if content is None:
            return False
        if objects.create(_place(url, number + 1), ENDED):
            return True


def is_ended(url: str) -> bool:
    """Whether a record was ended, and not all of its versions are removed."""
    try:
        return objects.read(newest_place(url)) == ENDED
    except FileNotFoundError:
        return False


def delete_record(url: str) -> None:
    """Remove every version of a record, the newest one last: one that was ended stays so to the end."""
    last = _last_number(url)
    for number in (*range(1, last), last):
        objects.delete(_place(url, number))
    objects.delete(_later(url))


def newest_place(url: str) -> str:
    """Where the newest version lies: the object to look at, or to delete, where it is damaged."""
    return _place(url, _last_number(url))


def _newest(url: str) -> tuple[int, bytes | None]:
    """Number and content of the newest version; 0 and None where there is none."""
    number = _last_number(url)
    while True:
        try:
            content = objects.read(_place(url, number))
        except FileNotFoundError:
            if number == 1:
                return 0, None
            content = b""  # somebody deletes the record
        newer = number if content else _last_number(url)
        if newer == number:
            return number, None if content == ENDED else content
        number = newer  # so many versions came since the listing that this one was emptied


def _last_number(url: str) -> int:
    found = (NUMBERED.fullmatch(name) for name in objects.names(_later(url)))
    return max((int(match[1]) for match in found if match), default=1)


def _forget(url: str, number: int) -> None:
    """Empty an old version; the first stays, as listings of records go by its name."""
    if number > 1:
        objects.empty(_place(url, number))


def _later(url: str) -> str:
    return f"{url.removesuffix('.json')}{LATER}"


def _place(url: str, number: int) -> str:
    return url if number == 1 else f"{_later(url)}/{number:08d}.json"
