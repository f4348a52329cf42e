"""Random operations on a store against a dictionary that should agree with it."""

import uuid
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from specdyn.storage.access import objects
from specdyn.storage.places import Store

FOLDERS = ("", "a/", "a/b/", "step=1/")
NAMES = ("x", "step=00000001.safetensors", "step=1 -> 2", "zarr.json", "é[0]")
KEYS = st.builds("{}{}".format, st.sampled_from(FOLDERS), st.sampled_from(NAMES))
DATA = st.binary(max_size=64)
OPERATIONS = st.one_of(
    st.tuples(st.just("write"), KEYS, DATA),
    st.tuples(st.just("create"), KEYS, DATA),
    st.tuples(st.just("delete"), KEYS, st.just(b"")),
    st.tuples(st.just("delete below"), st.sampled_from(FOLDERS[1:]), st.just(b"")),
    st.tuples(st.just("write all"), st.sampled_from(FOLDERS), DATA),
)
Operation = tuple[str, str, bytes]


def apply(model: dict[str, bytes], store: Store, operation: Operation) -> None:
    """Do one operation on both."""
    kind, key, data = operation
    if kind == "write":
        objects.write(f"{store}/{key}", data)
        model[key] = data
    elif kind == "create":
        assert objects.create(f"{store}/{key}", data) == (key not in model)
        model.setdefault(key, data)
    elif kind == "delete":
        objects.delete(f"{store}/{key}")
        model.pop(key, None)
    elif kind == "delete below":
        objects.delete(f"{store}/{key.rstrip('/')}")
        for gone in [other for other in model if other.startswith(key)]:
            del model[gone]
    else:
        files = {f"{key}{name}": data + name.encode() for name in NAMES}
        objects.write_all(store.url, files)
        model |= files


def compare(model: dict[str, bytes], store: Store) -> None:
    """Every object, the ranges of one, and the names in every folder that holds something."""
    for folder in FOLDERS:
        for name in NAMES:
            url = f"{store}/{folder}{name}"
            assert objects.exists(url) == (f"{folder}{name}" in model)
        below = {key.removeprefix(folder).split("/")[0] for key in model if key.startswith(folder)}
        if below:
            found = objects.names(f"{store}/{folder}".rstrip("/"))
            assert set(found) >= below
            assert found == sorted(set(found))
    for key, data in model.items():
        assert objects.read(f"{store}/{key}") == data
        if len(data) > 2:
            assert objects.read_range(f"{store}/{key}", 1, len(data) - 1) == data[1:-1]


def check(store: Store, operations: list[Operation]) -> None:
    model: dict[str, bytes] = {}
    for operation in operations:
        apply(model, store, operation)
    compare(model, store)


@given(operations=st.lists(OPERATIONS, max_size=12))
def test_a_local_folder_agrees_with_a_dictionary(
    tmp_path_factory: pytest.TempPathFactory, operations: list[Operation]
) -> None:
    check(Store(str(tmp_path_factory.mktemp("model"))), operations)


@pytest.fixture
def prefixes(s3_store: Store) -> Callable[[], str]:
    """Fresh prefixes on the S3 server."""
    return lambda: f"{s3_store}/{uuid.uuid4().hex}"


@pytest.mark.integration
def test_object_storage_agrees_with_a_dictionary(prefixes: Callable[[], str]) -> None:
    @settings(max_examples=8)
    @given(operations=st.lists(OPERATIONS, max_size=8))
    def run(operations: list[Operation]) -> None:
        check(Store(prefixes()), operations)

    run()


@given(url=st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=40))
def test_normalised_urls_are_stable_and_never_hold_a_password(url: str) -> None:
    try:
        normal = objects.normalise(url)
    except ValueError:
        return
    assert objects.normalise(normal) == normal
    assert normal.startswith("s3://") or Path(normal).is_absolute()


@given(
    scheme=st.sampled_from(["s3", "file", "https", "gs"]),
    secret=st.text("abcdefABCDEF0123456789+", min_size=8, max_size=40),
)
def test_no_message_repeats_a_password(scheme: str, secret: str) -> None:
    with pytest.raises(ValueError) as caught:
        objects.normalise(f"{scheme}://user:{secret}@bucket/x")
    assert secret not in str(caught.value)
