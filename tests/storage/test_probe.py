"""Trying a local folder before it is relied on; object storage is in integration/test_s3_storage.py."""

import json
from pathlib import Path

import pytest

from specdyn.storage import probe
from specdyn.storage.access import objects
from specdyn.storage.access.objects import StoreError
from specdyn.storage.places import Store
from specdyn.storage.probe import Check, existing_store, planned_store, require_store
from specdyn.storage.schema import SCHEMA_VERSION


def test_a_local_folder_can_do_everything(local_store: Store) -> None:
    checks = probe.probe(local_store.url)
    assert [check.name for check in checks] == ["reachable", "write", *probe.TRIALS, "delete"]
    assert {check.level for check in checks} == {"ok"}
    assert objects.names(local_store.url) == []


def test_a_required_store_is_made_and_gets_its_version(local_store: Store) -> None:
    require_store(local_store.url)
    require_store(local_store.url)
    assert objects.names(local_store.url) == ["specdyn.json"]
    assert json.loads(objects.read(local_store.schema)) == {"schema_version": SCHEMA_VERSION}


def test_a_newer_store_is_refused_and_left_alone(local_store: Store) -> None:
    text = json.dumps({"schema_version": SCHEMA_VERSION + 1}).encode()
    objects.write(local_store.schema, text)
    with pytest.raises(StoreError, match="install a newer specdyn"):
        require_store(local_store.url)
    assert objects.names(local_store.url) == ["specdyn.json"]
    assert objects.read(local_store.schema) == text


def test_an_older_store_is_refused_with_the_release_that_reads_it_and_left_alone(local_store: Store) -> None:
    text = json.dumps({"schema_version": 1}).encode()
    objects.write(local_store.schema, text)
    for use in (require_store, existing_store, planned_store):
        with pytest.raises(StoreError, match=r"has schema version 1, this specdyn reads 2: open it with specdyn 0\.1,"):
            use(local_store.url)
    assert objects.find(local_store.url) == ["specdyn.json"]
    assert objects.read(local_store.schema) == text


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"schema_version": "x"}', '{"schema_version": null}'])
def test_a_folder_of_something_else_is_refused(local_store: Store, text: str) -> None:
    objects.write(local_store.schema, text.encode())
    with pytest.raises(StoreError, match="expected the layout version"):
        require_store(local_store.url)


@pytest.mark.parametrize("below", ["", "/x", "/x/y"])
def test_a_path_at_or_below_a_file_is_refused(tmp_path: Path, below: str) -> None:
    (tmp_path / "file").write_text("")
    store = f"{tmp_path}/file{below}"
    with pytest.raises(StoreError, match="a part of this path is a file, expected a folder; choose another place"):
        require_store(store)
    (check,) = probe.probe(store)
    assert (check.name, check.level) == ("reachable", "error")
    assert store in check.detail


@pytest.mark.parametrize("url", ["gs://bucket/x", "s3://", ""])
def test_other_places_are_refused_as_store_errors(url: str) -> None:
    with pytest.raises(StoreError, match="expected"):
        require_store(url)
    assert probe.probe(url)[0].level == "error"


def test_what_fails_is_said_and_the_rest_still_tried(local_store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(objects, "read_range", lambda *_: b"the whole object")
    monkeypatch.setattr(objects, "create", lambda *_: True)
    checks = {check.name: check for check in probe.probe(local_store.url)}
    assert checks["ranged read"].level == "error"
    assert "got b'the whole object'" in checks["ranged read"].detail
    assert checks["conditional create"].level == checks["concurrent create"].level == "warning"
    assert "one sweep at a time" in checks["conditional create"].advice
    assert checks["delete"].level == "ok"
    assert objects.names(local_store.url) == []


def test_a_store_that_cannot_be_written_is_not_tried_further(
    local_store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(url: str, _: bytes) -> None:
        with objects.explained(url):
            raise PermissionError("Access Denied")

    monkeypatch.setattr(objects, "write", refuse)
    checks = probe.probe(local_store.url)
    assert [(check.name, check.level) for check in checks] == [
        ("reachable", "ok"),
        ("write", "error"),
        ("delete", "ok"),
    ]
    assert "access denied (Access Denied)" in checks[1].detail
    with pytest.raises(StoreError, match="access denied"):
        require_store(local_store.url)


def test_a_warning_is_not_an_error() -> None:
    assert [Check("x", ok, "", advice).level for ok, advice in [(True, ""), (True, "y"), (False, "")]] == [
        "ok",
        "warning",
        "error",
    ]
