"""Stores factors of matrices that do not fit in memory, or that units of work share."""

import hashlib
import json
import shutil
import tempfile
import weakref
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from typing import Any, Generic, TypeVar
from urllib.parse import quote, unquote

from safetensors import SafetensorError
from torch import Tensor

from specdyn.storage.access import objects
from specdyn.storage.access.objects import StoreError
from specdyn.storage.checkpoints import pack, unpack

F = TypeVar("F", bound=tuple[Any, ...])
SUFFIX = ".safetensors"
HELD = 2
"""Entries kept in memory: layers are compared in pairs."""


class StoredFactors(MutableMapping[str, F], Generic[F]):
    """A mapping from names to a NamedTuple of tensors and numbers, each an object below a URL.

    The entries read or written last stay in memory. Pickling keeps only the URL.
    """

    def __init__(self, url: str, kind: type[F]) -> None:
        self.url, self._kind = url, kind
        self._held: dict[str, F] = {}

    def __reduce__(self) -> tuple[Any, ...]:
        return StoredFactors, (self.url, self._kind)

    def __setitem__(self, name: str, factors: F) -> None:
        fields: dict[str, Any] = dict(zip(self._kind._fields, factors, strict=True))  # type: ignore[attr-defined]
        tensors = {key: value for key, value in fields.items() if isinstance(value, Tensor)}
        numbers = {key: value for key, value in fields.items() if key not in tensors}
        objects.write(self._place(name), pack(tensors, {**numbers, "sha256": _digest(tensors, numbers)}))
        self._hold(name, factors)

    def __getitem__(self, name: str) -> F:
        if name not in self._held:
            self._hold(name, self._kind(**self._read(name)))
        return self._held[name]

    def _read(self, name: str) -> dict[str, Any]:
        """The fields of an entry; a damaged one is removed and raises StoreError."""
        try:
            tensors, numbers = unpack(objects.read(self._place(name)))
            whole = numbers.pop("sha256", None) == _digest(tensors, numbers)
        except FileNotFoundError:
            raise KeyError(name) from None
        except (SafetensorError, ValueError, KeyError):
            whole, tensors, numbers = False, {}, {}
        if not whole:
            objects.delete(self._place(name))
            raise StoreError(f"{self._place(name)}: damaged factors, now removed; call again to compute them")
        return {**tensors, **numbers}

    def __delitem__(self, name: str) -> None:
        self._held.pop(name, None)
        objects.delete(self._place(name))

    def __iter__(self) -> Iterator[str]:
        return (unquote(name.removesuffix(SUFFIX)) for name in objects.names(self.url) if name.endswith(SUFFIX))

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def _place(self, name: str) -> str:
        return f"{self.url}/{quote(name, safe='')}{SUFFIX}"

    def _hold(self, name: str, factors: F) -> None:
        self._held[name] = factors
        while len(self._held) > HELD:
            self._held.pop(next(iter(self._held)))


class ScratchFactors(StoredFactors[F]):
    """StoredFactors in a local temporary folder that is removed with the mapping."""

    def __init__(self, kind: type[F]) -> None:
        super().__init__(tempfile.mkdtemp(prefix="specdyn-"), kind)
        weakref.finalize(self, shutil.rmtree, self.url, ignore_errors=True)


def share(url: str, factors: Mapping[str, F]) -> None:
    """Write the factors of several matrices as one object with its own digest."""
    tensors: dict[str, Tensor] = {}
    numbers: dict[str, Any] = {}
    columnwise: list[str] = []
    for name, found in factors.items():
        for field, value in found._asdict().items():  # type: ignore[attr-defined]
            key = f"{name}/{field}"
            if not isinstance(value, Tensor):
                numbers[key] = value
            elif value.is_contiguous() or not value.mT.is_contiguous():
                tensors[key] = value
            else:
                tensors[key] = value.mT
                columnwise.append(key)
    metadata = {"numbers": numbers, "columnwise": columnwise}
    objects.write(url, pack(tensors, {**metadata, "sha256": _digest(tensors, metadata)}))


def shared(url: str, kind: Callable[..., F]) -> dict[str, F] | None:
    """The factors at a URL, by the name of their matrix; None if they are missing or damaged.

    They keep their memory layout, row-major or column-major, since products would differ in the last bit otherwise.
    """
    try:
        tensors, metadata = unpack(objects.read(url))
    except (FileNotFoundError, SafetensorError, ValueError, KeyError):
        return None
    if metadata.pop("sha256", None) != _digest(tensors, metadata):
        return None
    for key in metadata["columnwise"]:
        tensors[key] = tensors[key].mT
    fields: dict[str, dict[str, Any]] = {}
    for key, value in (*tensors.items(), *metadata["numbers"].items()):
        name, _, field = key.rpartition("/")
        fields.setdefault(name, {})[field] = value
    return {name: kind(**found) for name, found in fields.items()}


def _digest(tensors: Mapping[str, Tensor], metadata: Mapping[str, Any]) -> str:
    """Digest of names and numbers, and of every byte of the tensors."""
    digest = hashlib.sha256(json.dumps([list(tensors), metadata], sort_keys=True).encode())
    for tensor in tensors.values():
        digest.update(tensor.contiguous().numpy().data)
    return digest.hexdigest()
