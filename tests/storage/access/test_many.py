"""Many objects read and listed at a time."""

from itertools import pairwise

import pytest

from specdyn.storage.access import many, objects
from specdyn.storage.access.listing import TooMany, listing, listing_below
from specdyn.storage.access.many import AT_ONCE, read_each
from specdyn.storage.access.objects import StoreError
from specdyn.storage.places import Store

COUNT = 2 * AT_ONCE + 3


@pytest.fixture(params=["local_store", pytest.param("s3_store", marks=pytest.mark.integration)])
def store(request: pytest.FixtureRequest) -> Store:
    """A store of each kind, with objects whose names are patterns to a shell."""
    found: Store = request.getfixturevalue(request.param)
    objects.write_all(found.url, {f"x/[{i:03}]*.json": str(i).encode() for i in range(COUNT)})
    return found


def urls_of(store: Store) -> list[str]:
    return [f"{store.url}/x/[{i:03}]*.json" for i in range(COUNT)]


def test_objects_are_read_in_order_and_missing_ones_are_none(store: Store) -> None:
    urls = urls_of(store)[::-1]
    urls[AT_ONCE] = f"{store.url}/x/none.json"
    contents: list[bytes | None] = [str(i).encode() for i in range(COUNT)][::-1]
    contents[AT_ONCE] = None
    assert list(read_each(urls)) == list(zip(urls, contents, strict=True))
    assert list(read_each([])) == []


def test_what_is_held_in_memory_is_bounded(local_store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    objects.write_all(local_store.url, {f"x/[{i:03}]*.json": b"" for i in range(COUNT)})
    batches: list[int] = []
    usual = many._answers
    monkeypatch.setattr(many, "_answers", lambda urls: batches.append(len(urls)) or usual(urls))
    reading = read_each(urls_of(local_store))
    next(reading)
    assert batches == [AT_ONCE], "the others are read once these are used"
    list(reading)
    assert batches == [AT_ONCE, AT_ONCE, 3]


def test_an_object_that_cannot_be_read_is_named(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    bad = urls_of(store)[5]
    client = type(objects.filesystem(store.url))
    name = "cat_file" if objects.is_local(store.url) else "_cat_file"
    usual = getattr(client, name)

    def refuse(self: object, path: str, *args: object, **kwargs: object) -> object:
        if path == bad:
            raise PermissionError("no")
        return usual(self, path, *args, **kwargs)

    async def refuse_later(self: object, path: str, *args: object, **kwargs: object) -> object:
        return await refuse(self, path, *args, **kwargs)  # type: ignore[misc]

    monkeypatch.setattr(client, name, refuse if objects.is_local(store.url) else refuse_later)
    reading = read_each(urls_of(store))
    with pytest.raises(StoreError, match="denied") as caught:
        list(reading)
    assert str(caught.value).startswith(f"{bad}: ")


@pytest.mark.integration
def test_a_missing_bucket_is_not_mistaken_for_missing_objects(s3_store: Store) -> None:
    with pytest.raises(StoreError, match="the bucket does not exist"):
        list(read_each(["s3://specdyn-absent/a", "s3://specdyn-absent/b"]))


def test_a_listing_of_at_most_so_many_is_whole_or_refused(store: Store) -> None:
    whole = listing_below(f"{store.url}/x")
    assert list(whole) == sorted(f"[{i:03}]*.json" for i in range(COUNT))
    assert all(a < b for a, b in pairwise(whole))
    assert whole == listing(f"{store.url}/x") == listing_below(f"{store.url}/x", COUNT)
    with pytest.raises(TooMany):
        listing_below(f"{store.url}/x", COUNT - 1)
    assert listing_below(f"{store.url}/none", 5) == {}


def test_a_listing_leaves_out_what_is_being_written_and_follows_folders(local_store: Store) -> None:
    objects.write_all(local_store.url, {"x/a/b.json": b"1", "x/c.json": b"22"})
    objects.write(f"{local_store.url}/x/a/d{objects.PARTIAL}", b"3")
    sizes = {key: found.bytes for key, found in listing_below(f"{local_store.url}/x").items()}
    assert sizes == {"a/b.json": 1, "c.json": 2}
    assert objects.names_below(f"{local_store.url}/x") == list(sizes)
