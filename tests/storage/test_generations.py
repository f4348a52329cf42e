"""A cube is rebuilt beside the one that readers have open: they never miss a value, and never see a wrong one."""

import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
import xarray as xr
import zarr

from helpers.rebuilt import VERSIONS, build, check, reading, rows_of
from specdyn.storage import cube, generations
from specdyn.storage.access import objects
from specdyn.storage.leftovers import remove_leftovers
from specdyn.storage.places import Store
from specdyn.storage.query import open_results
from specdyn.storage.rows import Row

OPENERS: dict[str, Callable[[str], xr.DataTree]] = {
    "plain xarray": lambda url: xr.open_datatree(url, engine="zarr"),
    "open_results": open_results,
}


@pytest.fixture
def rows(local_store: Store) -> dict[str, Row]:
    return rows_of(local_store)


@pytest.fixture
def url(local_store: Store, rows: dict[str, Row]) -> str:
    """The first version of the cube."""
    where = local_store.cube("hand")
    build(where, rows, 0)
    return where


@pytest.mark.parametrize("opener", OPENERS)
def test_a_reader_in_a_loop_sees_whole_versions_while_others_are_built(
    url: str, rows: dict[str, Row], opener: str
) -> None:
    for version in range(1, len(VERSIONS)):
        with reading(lambda: OPENERS[opener](url)) as seen:
            build(url, rows, version)
        assert set(seen) <= {version - 1, version}
        assert check(OPENERS[opener](url)) == version


def test_what_was_opened_survives_two_builds(url: str, rows: dict[str, Row]) -> None:
    opened = [xr.open_datatree(url, engine="zarr")]
    for version in range(1, len(VERSIONS)):
        build(url, rows, version)
        opened.append(xr.open_datatree(url, engine="zarr"))
        assert [check(tree.copy()) for tree in opened[-3:]] == list(range(len(opened)))[-3:]


def test_the_cube_is_never_missing_and_switched_by_one_write(
    local_store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Variables of two groups: what is opened before each write, and after the last, is one of the two versions."""
    names, url = ("effective_rank", "loss"), local_store.cube("hand")
    rows = rows_of(local_store, names)
    build(url, rows, 0)
    found: list[int] = []
    write = objects.write

    def look() -> None:
        found.append(check(xr.open_datatree(url, engine="zarr"), names))

    def watched(where: str, data: bytes) -> None:
        look()
        write(where, data)

    monkeypatch.setattr(objects, "write", watched)
    build(url, rows, 3)
    look()
    assert set(found) == {0, 3}
    assert found == sorted(found)


def test_a_group_or_array_opened_alone_is_from_the_new_cube(url: str, rows: dict[str, Row]) -> None:
    for version in (2, 3):
        build(url, rows, version)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            layers = xr.open_zarr(url, group="layers").load()
            plain = xr.open_datatree(url, engine="zarr", consolidated=False)
        assert layers["run"].values.tolist() == list(VERSIONS[version])
        assert check(plain) == version
        first = zarr.open_array(f"{url}/layers/effective_rank", mode="r")
        assert first.shape == layers["effective_rank"].shape


def test_a_build_that_dies_leaves_the_cube_as_it_was_and_is_made_good_by_the_next(
    url: str, rows: dict[str, Row], monkeypatch: pytest.MonkeyPatch
) -> None:
    put, left = cube._put, 3

    def die(*arguments: object) -> None:
        nonlocal left
        left -= 1
        if left < 0:
            raise KeyboardInterrupt
        put(*arguments)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(cube, "_put", die)
        with pytest.raises(KeyboardInterrupt):
            build(url, rows, 3)
    assert check(open_results(url)) == 0
    held = open_results(url)
    build(url, rows, 2)
    assert check(open_results(url)) == 2
    assert check(held) == 0


def test_old_chunks_go_at_the_third_build_or_when_the_store_is_cleaned(url: str, rows: dict[str, Row]) -> None:
    for version in (1, 2, 3, 4):
        build(url, rows, version)
        forms = {form for key in objects.find(url) if (form := generations.form_of(key)) is not None}
        assert len(forms) == min(version + 1, 3)
    store = str(Path(url).parents[2])
    assert remove_leftovers(Store(store)) == (0, 0)
    count, size = remove_leftovers(Store(store), older_than=0.0)
    assert count > 0
    assert size > 0
    assert {generations.form_of(key) for key in objects.find(url)} == {None, generations.current(url)}
    assert check(open_results(url)) == 4
    afresh = Store(store).cube("afresh")
    build(afresh, rows, 4)
    assert len(objects.find(url)) == len(objects.find(afresh))


@pytest.mark.parametrize(
    ("key", "form"),
    [
        ("layers/x/c/0/12", 0),
        ("x/c/3", 0),
        ("layers/x/c.0.12", 1),
        ("layers/x/0.12", 2),
        ("layers/run/0", 2),
        ("layers/x/zarr.json", None),
        ("zarr.json", None),
    ],
)
def test_the_key_of_a_chunk_tells_its_form(key: str, form: int | None) -> None:
    assert generations.form_of(key) == form


def test_a_dead_builder_that_may_still_write_is_kept_out_of_the_next_ones_chunks(
    url: str, rows: dict[str, Row]
) -> None:
    usual = generations.begin(url)
    assert generations.begin(url, avoided=True) != usual
    assert generations.current(url) not in (usual, generations.begin(url, avoided=True))
    assert check(open_results(url)) == 0
