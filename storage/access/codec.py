"""Records as JSON: the fields of a dataclass, the schema version and a digest of both."""

import dataclasses
import functools
import hashlib
import json
from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from specdyn.storage.access.objects import StoreError
from specdyn.storage.schema import SCHEMA_VERSION

T = TypeVar("T")
DIGEST = "digest"
"""The key of a record's own digest."""

RELEASES = {1: "0.1"}
"""The release that reads each older version of the schema."""


def encode(record: Any) -> bytes:
    """A dataclass as JSON, which `decode` reads; equal records have equal bytes."""
    plain = {"schema_version": SCHEMA_VERSION, **dataclasses.asdict(record)}
    return seal(plain)


def seal(plain: Mapping[str, Any]) -> bytes:
    """An object as JSON with its own digest, by which `unseal` detects any change."""
    return json.dumps({**plain, DIGEST: _digest(plain)}, indent=1, sort_keys=True).encode()


def unseal(data: bytes) -> Any:
    """The sealed object without its digest; ValueError if it was altered.

    An object without a digest predates digests and is accepted as it is.
    """
    plain = json.loads(data)
    if isinstance(plain, dict) and DIGEST in plain and plain.pop(DIGEST) != _digest(plain):
        raise ValueError("its digest does not match")
    return plain


def _digest(plain: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()


def decode(kind: type[T], url: str, data: bytes) -> T:
    """Parse the bytes at the URL as a record of this dataclass.

    StoreError if a newer specdyn wrote it; ValueError, naming the fields, if it is not such a record.
    """
    plain = json.loads(data)
    if not isinstance(plain, dict) or not isinstance(plain.get("schema_version"), int):
        raise ValueError("expected an object with a schema_version")
    require_schema(url, plain["schema_version"])  # first, as a newer schema may compute its digest differently
    plain = unseal(data)
    known = {field.name for field in dataclasses.fields(kind)} | {"schema_version"}  # type: ignore[arg-type]
    if unknown := sorted(plain.keys() - known):
        raise ValueError(f"unknown fields: {', '.join(unknown)}")
    try:
        record: T = _adapter(kind).validate_python(plain)  # type: ignore[arg-type]  # classes are hashable
        return record
    except ValidationError as error:
        wrong = [f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors()]
        raise ValueError("; ".join(wrong)) from None


@functools.cache
def _adapter(kind: Any) -> TypeAdapter[Any]:
    """Cached per kind of record, since building one takes longer than reading a record with it."""
    return TypeAdapter(kind)


def require_schema(url: str, version: int) -> None:
    """Raise StoreError if an object was written by a specdyn with a different store layout."""
    if version < SCHEMA_VERSION:
        raise StoreError(
            f"{url} has schema version {version}, this specdyn reads {SCHEMA_VERSION}: open it with specdyn "
            f"{RELEASES.get(version, 'of its time')}, or choose another store and run again"
        )
    if version > SCHEMA_VERSION:
        raise StoreError(
            f"{url} has schema version {version}, this specdyn reads up to {SCHEMA_VERSION}: install a newer specdyn"
        )
