"""Records as JSON: what is written comes back, and what is no such record is refused by field."""

import dataclasses
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from specdyn.storage.access.codec import DIGEST, decode, encode, unseal
from specdyn.storage.access.objects import StoreError
from specdyn.storage.checkpoints import CheckpointEntry, Manifest
from specdyn.storage.schema import SCHEMA_VERSION
from specdyn.storage.studies import StudyRecord

TEXT = st.text(max_size=20)
ENTRIES = st.builds(
    CheckpointEntry, step=st.integers(0), bytes=st.integers(0), sha256=TEXT, header_bytes=st.integers(0)
)
MANIFESTS = st.builds(
    Manifest,
    experiment=TEXT,
    run_id=TEXT,
    spec=TEXT,
    status=TEXT,
    checkpoints=st.lists(ENTRIES, max_size=3).map(tuple),
    device=TEXT,
    threads=st.integers(1, 99),
    seconds=st.floats(0, 1e9),
    versions=st.dictionaries(TEXT, TEXT, max_size=3),
)
SWEEP = StudyRecord(name="decay", kind="sweep", experiment="e", preset="p", specs=("{}",))


@given(MANIFESTS)
def test_a_manifest_comes_back_as_it_was(manifest: Manifest) -> None:
    assert decode(Manifest, "url", encode(manifest)) == manifest
    assert encode(decode(Manifest, "url", encode(manifest))) == encode(manifest)


def changed(**fields: Any) -> bytes:
    """The record with other fields, as one that was written before records had a digest."""
    return json.dumps({**unseal(encode(SWEEP)), **fields}).encode()


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"{", "Expecting property name"),
        (b"[]", "expected an object with a schema_version"),
        (b"{}", "expected an object with a schema_version"),
        (changed(schema_version="1"), "expected an object with a schema_version"),
        (changed(specs=[1]), "specs.0: Input should be a valid string"),
        (changed(specs="{}"), "specs: Input should be a valid tuple"),
        (changed(more=1), "unknown fields: more"),
        (json.dumps({"schema_version": SCHEMA_VERSION, "name": "decay"}).encode(), "experiment"),
    ],
)
def test_what_is_no_such_record_is_refused_by_field(data: bytes, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        decode(StudyRecord, "url", data)


def test_a_record_of_a_newer_schema_is_refused_as_such() -> None:
    with pytest.raises(StoreError, match=rf"here has schema version {SCHEMA_VERSION + 1}.*install a newer"):
        decode(StudyRecord, "here", changed(schema_version=SCHEMA_VERSION + 1, more=1))
    assert decode(StudyRecord, "here", encode(dataclasses.replace(SWEEP, specs=()))).specs == ()


@pytest.mark.parametrize("bit", range(8))
def test_any_bit_of_a_record_that_changes_is_seen(bit: int) -> None:
    data = encode(SWEEP)
    for place in range(len(data)):
        flipped = data[:place] + bytes([data[place] ^ 1 << bit]) + data[place + 1 :]
        with pytest.raises((ValueError, StoreError)):
            decode(StudyRecord, "url", flipped)


def test_a_record_without_a_digest_is_read() -> None:
    assert DIGEST in json.loads(encode(SWEEP))
    assert decode(StudyRecord, "url", changed()) == SWEEP
