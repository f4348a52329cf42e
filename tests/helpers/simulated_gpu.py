"""A simulated GPU for machines without one: tensors that claim to be on a GPU, and reject what GPU tensors reject.

Values are computed on the CPU. Operations on tensors of both devices raise, and so does reading a tensor's memory
from Python without a copy to the CPU. It cannot simulate missing kernels, rounding, or timing.
"""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes
from torch.utils._pytree import tree_leaves, tree_map

from specdyn.models import generators

GPU = torch.device("cuda", 0)
CPU = torch.device("cpu")
MOVES = (torch.ops.aten._to_copy.default, torch.ops.aten.copy_.default)
"""Operations that may read one device and write the other."""


class DevicesMixed(RuntimeError):
    """An operation was given tensors on the CPU and on the GPU: torch would raise."""


class GpuTensor(Tensor):
    """A tensor on the simulated GPU: without memory for torch's core, on a GPU for Python."""

    values: Tensor
    device = property(lambda self: GPU)  # type: ignore[assignment]
    is_cuda = property(lambda self: True)  # type: ignore[assignment]
    is_meta = property(lambda self: False)  # type: ignore[assignment]
    __torch_function__ = torch._C._disabled_torch_function_impl

    @staticmethod
    def __new__(cls, values: Tensor) -> "GpuTensor":
        made = Tensor._make_wrapper_subclass(  # type: ignore[attr-defined]
            cls,
            values.shape,
            strides=values.stride(),
            storage_offset=values.storage_offset(),
            dtype=values.dtype,
            device="meta",
        )
        made.values = values
        return made

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _compute(func, args, kwargs or {})

    def item(self) -> Any:
        return self.values.item()

    def tolist(self) -> Any:
        return self.values.tolist()

    def __bool__(self) -> bool:
        return bool(self.values)

    def __int__(self) -> int:
        return int(self.values)

    def __float__(self) -> float:
        return float(self.values)

    def __index__(self) -> int:
        return self.values.__index__()

    def numpy(self, *, force: bool = False) -> Any:
        raise TypeError("can't convert cuda:0 device type tensor to numpy")

    def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
        raise TypeError("can't convert cuda:0 device type tensor to numpy")


class _Mode(TorchDispatchMode):
    _mode_key = torch._C._TorchDispatchModeKey.FAKE  # without it, torch looks for CUDA as soon as a device is named

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _compute(func, args, kwargs or {})


@contextlib.contextmanager
def simulated_gpu() -> Iterator[torch.device]:
    """The device; inside, tensors created on it or moved to it are GpuTensors. It has no generator."""
    state = torch.zeros(16, dtype=torch.uint8)
    cuda = {
        "get_device_name": lambda device: "simulated",
        "get_rng_state": lambda *device: state,
        "set_rng_state": lambda *given: None,
        "get_rng_state_all": lambda: [state],
        "set_rng_state_all": lambda states: None,
    }
    # A GPU generator cannot be created without a GPU.
    seeded = mock.patch.object(generators, "new_state", lambda kind, value: _seeded(kind, value, state))
    # cuDNN would access the memory of an LSTM's weights.
    no_cudnn = mock.patch.object(torch.backends.cudnn, "is_acceptable", return_value=False)
    with mock.patch.multiple(torch.cuda, **cuda), seeded, no_cudnn, _Mode():
        yield GPU


def _seeded(kind: str, value: int, of_gpu: Tensor) -> Tensor:
    return of_gpu if kind == "cuda" else torch.Generator().manual_seed(value).get_state()


def _compute(func: Callable[..., Any], args: Any, kwargs: dict[str, Any]) -> Any:
    given = [value for value in tree_leaves((args, kwargs)) if isinstance(value, Tensor)]
    on_gpu = any(isinstance(tensor, GpuTensor) for tensor in given)
    # Scalars, and indices into a GPU tensor, may be on the CPU.
    indices = args[1] if func is torch.ops.aten.index.Tensor else ()
    strangers = [t for t in given if not isinstance(t, GpuTensor) and t.ndim and not any(t is i for i in indices)]
    if on_gpu and strangers and func not in MOVES:
        raise DevicesMixed(f"{func}: one tensor is on the CPU, another on the GPU")
    target = kwargs.get("device")
    moved = kwargs if target is None else {**kwargs, "device": CPU}
    with _disable_current_modes():
        result = func(*tree_map(_values, args), **tree_map(_values, moved))
    known = {id(_values(tensor)): tensor for tensor in given}
    goes_to_gpu = on_gpu if target is None else torch.device(target).type in ("cuda", "meta")

    def placed(value: Any) -> Any:
        if not isinstance(value, Tensor):
            return value
        if id(value) in known:  # changed in place
            return known[id(value)]
        return GpuTensor(value) if goes_to_gpu else value

    return tree_map(placed, result)


def _values(value: Any) -> Any:
    return value.values if isinstance(value, GpuTensor) else value
