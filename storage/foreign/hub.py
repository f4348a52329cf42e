"""Finds the revisions of a Hub repository that form a series."""

from concurrent.futures import ThreadPoolExecutor
from fnmatch import fnmatchcase
from urllib.parse import quote

from specdyn.storage.access import objects
from specdyn.storage.access.listing import Listed, listing
from specdyn.storage.access.objects import StoreError

AT_ONCE = 8
"""Concurrent listings."""


def find_revisions(url: str, pattern: str) -> dict[str, tuple[str, dict[str, Listed]]]:
    """The branches and tags of a repository whose names match, each with its folder and its contents.

    ValueError if the URL is not a repository of the Hub; StoreError, naming some revisions, if none match.
    """
    if not url.startswith(objects.HUB) or "@" in url:
        raise ValueError(f"revisions={pattern!r} belongs to hf://organisation/name without a revision, not to {url}")
    organisation, name, *inside = url.removeprefix(objects.HUB).split("/")
    repository = f"{organisation}/{name}"
    names: list[str] = objects.filesystem(url).revisions(repository)
    matching = [ref for ref in names if fnmatchcase(ref, pattern)]
    if not matching:
        seen = ", ".join(names[:10]) + (", ..." if len(names) > 10 else "")
        raise StoreError(f"{url}: none of its {len(names)} revisions matches {pattern!r}; it has {seen}")
    folders = ["/".join([f"{objects.HUB}{repository}@{quote(ref, safe='')}", *inside]) for ref in matching]
    with ThreadPoolExecutor(AT_ONCE) as threads:
        return dict(zip(matching, zip(folders, threads.map(listing, folders), strict=True), strict=True))
