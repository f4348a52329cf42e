"""Records as JSON: the fields of a dataclass, and beside them the version of the schema and a digest of it all."""

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
    """An object as JSON with its own digest, so that `unseal` sees any change of it."""
    return json.dumps({**plain, DIGEST: _digest(plain)}, indent=1, sort_keys=True).encode()


def unseal(data: bytes) -> Any:
    """What was sealed, without the digest; ValueError where it is not as it was written.

    What has no digest was written before there was one, and is taken as it is.
    """
    plain = json.loads(data)
    if isinstance(plain, dict) and DIGEST in plain and plain.pop(DIGEST) != _digest(plain):
        raise ValueError("its digest does not match")
    return plain


def _digest(plain: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()


def decode(kind: type[T], url: str, data: bytes) -> T:
    """The record of that dataclass from the bytes at the URL.

    StoreError where a newer specdyn wrote it, ValueError that names the fields where it is not such a record.
    """
    plain = json.loads(data)
    if not isinstance(plain, dict) or not isinstance(plain.get("schema_version"), int):
        raise ValueError("expected an object with a schema_version")
    require_schema(url, plain["schema_version"])  # first, as a newer one may have another digest
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
    """Made once for each kind of record: making one takes longer than reading a record with it."""
    return TypeAdapter(kind)


def require_schema(url: str, version: int) -> None:
    """Raise StoreError where an object was written by a specdyn that had another layout of stores."""
    if version < SCHEMA_VERSION:
        raise StoreError(
            f"{url} has schema version {version}, this specdyn reads {SCHEMA_VERSION}: open it with specdyn "
            f"{RELEASES.get(version, 'of its time')}, or choose another store and run again"
        )
    if version > SCHEMA_VERSION:
        raise StoreError(
            f"{url} has schema version {version}, this specdyn reads up to {SCHEMA_VERSION}: install a newer specdyn"
        )
