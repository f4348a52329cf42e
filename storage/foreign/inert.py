"""Reads pickles of other programs without calling anything: tensors are extracted, the rest becomes stand-ins.

A pickle is a program that may import and call any function. This reader follows it without importing or calling
what it names: a name becomes a `Named`, a call becomes a `StandIn` that keeps the arguments, and our own code builds
a value only for the few names in RULES: tensors, arrays and containers.
"""

import pickle
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import IO, Any, ClassVar, Literal

import numpy as np
import torch

from specdyn.storage.foreign.stored import Array, Bytes, Compressed, Coordinates, Stored, Strided

DEEPEST = 3
"""Maximum nesting: plain pickles embed each storage as a file of torch.save."""
TORCH_DTYPES = {f"torch.{name}": value for name, value in vars(torch).items() if isinstance(value, torch.dtype)}
STORAGES = {
    "DoubleStorage": torch.float64,
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
    "ComplexFloatStorage": torch.complex64,
    "ComplexDoubleStorage": torch.complex128,
    "UntypedStorage": torch.uint8,
}
"""Element type of a storage, by the name of its class."""


@dataclass(frozen=True, slots=True)
class Named:
    """A class or function named by a pickle, not imported."""

    name: str
    """The name including its module."""


class StandIn:
    """Represents an object of an unknown class: keeps what the pickle passes to it and does nothing."""

    __slots__ = ("args", "entries", "items", "name", "state")

    def __init__(self, name: str, args: tuple[Any, ...] = ()) -> None:
        self.name, self.args = name, args
        self.state: Any = None
        self.items: list[Any] = []
        self.entries: dict[Any, Any] = {}

    def append(self, item: Any) -> None:
        """Keep an item, for list-like classes."""
        self.items.append(item)

    def extend(self, items: list[Any]) -> None:
        """Keep items, for list-like classes."""
        self.items.extend(items)

    def add(self, item: Any) -> None:
        """Keep an item, for set-like classes."""
        self.items.append(item)

    def __setitem__(self, key: Any, value: Any) -> None:
        self.entries[key] = value

    def field(self, name: str, otherwise: Any = None) -> Any:
        """An attribute that the pickle sets on the object."""
        return self.state.get(name, otherwise) if isinstance(self.state, dict) else otherwise


@dataclass(slots=True)
class NumpyType:
    """A numpy type by its code, such as f8."""

    code: str
    order: str = "<"

    @property
    def dtype(self) -> np.dtype[Any]:
        """The dtype; ValueError unless it is a plain number or text."""
        if self.code[:1] not in "biufcSU":
            raise ValueError(f"numpy type {self.code!r}")
        return np.dtype(self.code if self.order == "|" else self.order + self.code)


class InertUnpickler(pickle._Unpickler):
    """Follows a pickle without importing or calling anything that it names.

    `storage` returns the bytes of a storage by key, element type and number of elements; `nested` reads a file of
    torch.save embedded in the pickle.
    """

    # Attributes of the standard library's class that its type stubs omit.
    stack: list[Any]
    append: Callable[[Any], None]
    pop_mark: Callable[[], list[Any]]
    readline: Callable[[], bytes]

    def __init__(
        self,
        file: IO[bytes],
        storage: Callable[[str, torch.dtype, int], Bytes],
        nested: Callable[[bytes], Any],
    ) -> None:
        super().__init__(file, encoding="latin1")
        self._storage, self._nested = storage, nested

    def find_class(self, module: str, name: str) -> Named:
        """The name, without importing it."""
        return Named(f"{module}.{name}")

    def persistent_load(self, pid: Any) -> Any:
        """A storage, from `("storage", class, key, device, elements)`; in old files also a view of one, or a class."""
        if pid[0] == "module":
            return pid[1]
        kind, cls, key, _, count, *view = pid
        dtype = STORAGES.get(cls.name.rpartition(".")[2]) if isinstance(cls, Named) else None
        if kind != "storage" or dtype is None:
            raise pickle.UnpicklingError(f"a storage of an unknown kind: {pid!r:.80}")
        whole = self._storage(str(key), dtype, int(count))
        if not view or view[0] is None:
            return whole
        _, start, size = view[0]
        return whole.part(int(start), int(size))

    def made(self, called: Any, args: Any) -> Any:
        """The result of a call: a value built by RULES, else a stand-in that keeps the arguments."""
        name = called.name if isinstance(called, Named) else "an object"
        if not isinstance(args, tuple):
            args = (args,)
        rule = RULES.get(name)
        if rule is None:
            return StandIn(name, args)
        try:
            return rule(self, *args)
        except (TypeError, ValueError, AttributeError, LookupError, OverflowError):
            return StandIn(name, args)

    def nested(self, data: Any) -> Any:
        """The content of a file of torch.save embedded in the pickle."""
        return self._nested(bytes(data))

    def _reduce(self) -> None:
        args = self.stack.pop()
        self.stack[-1] = self.made(self.stack[-1], args)

    def _new_object_with_keywords(self) -> None:
        self.stack.pop()
        self._reduce()

    def _object(self) -> None:
        called, *args = self.pop_mark()
        self.append(self.made(called, tuple(args)))

    def _instance(self) -> None:
        module, name = (self.readline()[:-1].decode("ascii") for _ in range(2))
        args = self.pop_mark()
        self.append(self.made(self.find_class(module, name), tuple(args)))

    def _build(self) -> None:
        state = self.stack.pop()
        built = self.stack[-1]
        if isinstance(built, StandIn):
            built.state = state
        elif isinstance(built, NumpyType) and isinstance(state, tuple) and state[1:2] and state[1] in ("<", ">", "|"):
            built.order = state[1]
        elif isinstance(built, Array) and isinstance(state, tuple):
            self.stack[-1] = _filled(state)

    def _extension(self) -> None:
        raise pickle.UnpicklingError("an extension code, whose meaning is not in the file")

    dispatch: ClassVar[dict[int, Any]] = {
        **pickle._Unpickler.dispatch,
        pickle.REDUCE[0]: _reduce,
        pickle.NEWOBJ[0]: _reduce,
        pickle.NEWOBJ_EX[0]: _new_object_with_keywords,
        pickle.OBJ[0]: _object,
        pickle.INST[0]: _instance,
        pickle.BUILD[0]: _build,
        pickle.EXT1[0]: _extension,
        pickle.EXT2[0]: _extension,
        pickle.EXT4[0]: _extension,
    }


def _filled(state: tuple[Any, ...]) -> Array | StandIn:
    """A numpy array with its content, or a stand-in if it is not numeric."""
    try:
        shape, kind, fortran, data = state[1:5] if len(state) == 5 else state[:4]
        return _array(None, data, kind, shape, "F" if fortran else "C")
    except (ValueError, TypeError, AttributeError):
        return StandIn("numpy.ndarray", state)


def _array(_: Any, data: Any, kind: NumpyType, shape: Any, order: Literal["F", "C"] = "C") -> Array:
    plain = data.encode("latin1") if isinstance(data, str) else data
    if kind.code[:1] not in "biufc":
        raise ValueError(f"numpy type {kind.code!r}")
    values = np.frombuffer(plain, kind.dtype).reshape(shape, order=order)
    return Array(torch.from_numpy(values.astype(kind.dtype.newbyteorder("="), order="C")))


def _strided(_: InertUnpickler, storage: Any, offset: int, size: Any, stride: Any, *rest: Any) -> Stored:
    dtype = next((TORCH_DTYPES[item.name] for item in rest if isinstance(item, Named)), None)
    if not isinstance(storage, Bytes):
        raise TypeError("no storage")
    return Strided(storage, dtype or storage.dtype, int(offset), tuple(map(int, size)), tuple(map(int, stride)))


def _sparse(_: InertUnpickler, layout: str, data: Any) -> Stored:
    if layout == "torch.sparse_coo":
        indices, values, size, *_rest = data
        return Coordinates(indices, values, tuple(map(int, size)))
    if layout not in ("torch.sparse_csr", "torch.sparse_csc") or len(data[3]) != 2:
        raise ValueError(layout)
    compressed, plain, values, size = data
    return Compressed(compressed, plain, values, tuple(map(int, size)), by_rows=layout == "torch.sparse_csr")


def _number(_: InertUnpickler, kind: NumpyType, data: Any) -> Any:
    return np.frombuffer(data.encode("latin1") if isinstance(data, str) else data, kind.dtype)[0].item()


def _encoded(_: InertUnpickler, text: str, encoding: str) -> bytes:
    if encoding not in ("latin1", "latin-1"):
        raise ValueError(encoding)
    return text.encode("latin1")


def _first(_: InertUnpickler, value: Any, *rest: Any) -> Any:
    return value


RULES: Mapping[str, Callable[..., Any]] = {
    "collections.OrderedDict": lambda _, *pairs: dict(*pairs),
    "collections.defaultdict": lambda _, *factory: {},
    "collections.Counter": lambda _, *counts: dict(*counts),
    **{f"{m}.{t}": lambda _, items=(): set(items) for m in ("builtins", "__builtin__") for t in ("set", "frozenset")},
    "_codecs.encode": _encoded,
    "torch.Size": lambda _, size=(): tuple(size),
    "torch.device": lambda _, kind, *index: str(kind),
    "torch.serialization._get_layout": _first,
    "torch.storage._load_from_bytes": lambda reader, data: reader.nested(data),
    "torch._utils._rebuild_tensor": _strided,
    "torch._utils._rebuild_tensor_v2": _strided,
    "torch._utils._rebuild_tensor_v3": _strided,
    "torch._utils._rebuild_parameter": _first,
    "torch._utils._rebuild_parameter_with_state": _first,
    "torch._utils._rebuild_device_tensor_from_cpu_tensor": _first,
    "torch._utils._rebuild_sparse_tensor": _sparse,
    "torch._tensor._rebuild_from_type_v2": lambda reader, function, cls, args, state: reader.made(function, args),
    "torch.nn.parameter.Parameter": _first,
    "torch.nn.parameter.Buffer": _first,
    "numpy.dtype": lambda _, code, *rest: NumpyType(code),
    **{f"numpy.{core}.multiarray.scalar": _number for core in ("core", "_core")},
    **{f"numpy.{core}.numeric._frombuffer": _array for core in ("core", "_core")},
    **{f"numpy.{core}.multiarray._reconstruct": lambda _, *a: Array(torch.empty(0)) for core in ("core", "_core")},
}
"""The names for which our own code builds values; no other name in a pickle has any effect."""
