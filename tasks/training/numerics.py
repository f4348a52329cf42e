"""Numerical settings of a run on a device: precision, determinism, compilation."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.utils.deterministic
from torch import nn

from specdyn.models import generators
from specdyn.models.nets.transformer import TransformerNet
from specdyn.models.spec.checks import require
from specdyn.models.spec.run_spec import RunSpec
from specdyn.tasks.evaluation.environment import fix_cublas_workspace

DTYPES = {"float16": torch.float16, "bfloat16": torch.bfloat16}
OFF, WARN, ERROR = 0, 1, 2
"""torch's modes for non-deterministic operations, by its own numbers."""


@contextmanager
def numerics(spec: RunSpec, device: torch.device) -> Iterator[None]:
    """Set deterministic kernels and TensorFloat-32 as in the spec, and restore them afterwards.

    Also restores the random generators.
    """
    fix_cublas_workspace()
    mode, compiles = torch.get_deterministic_debug_mode(), spec.numerics.compile
    products: Any = torch.backends.cuda.matmul
    convolutions: Any = torch.backends.cudnn
    memory: Any = torch.utils.deterministic
    before = products.allow_tf32, convolutions.allow_tf32, memory.fill_uninitialized_memory
    try:
        _set_deterministic(ERROR if spec.numerics.deterministic else OFF, compiles)
        products.allow_tf32 = convolutions.allow_tf32 = spec.numerics.tf32
        memory.fill_uninitialized_memory = False  # takes time and does not affect any bit
        with generators.kept(device):
            yield
    finally:
        _set_deterministic(mode, compiles)
        products.allow_tf32, convolutions.allow_tf32, memory.fill_uninitialized_memory = before


def _set_deterministic(mode: int, compiles: bool) -> None:
    """Set torch's mode, and the compiler's if it is used, as importing it takes longer than torch itself."""
    if compiles:
        torch.use_deterministic_algorithms(mode != OFF, warn_only=mode == WARN)
    else:
        torch.set_deterministic_debug_mode(mode)


def autocast(spec: RunSpec, device: torch.device) -> torch.autocast:
    """Forward and loss in the spec's precision; ValueError for float16 on the CPU, which has no loss scaling."""
    precision = spec.numerics.precision
    fits = precision != "float16" or device.type == "cuda"
    require(fits, "precision", precision, f"float32 or bfloat16 on the {device.type}; float16 needs a GPU")
    return torch.autocast(device.type, DTYPES.get(precision), enabled=precision in DTYPES)


def choose_forward(spec: RunSpec, net: nn.Module, examples: int) -> str:
    """How outputs are computed in training: `tables` if equivalent and cheaper, else `layers`.

    Tables need a network that supports them, full batches, float32, and no compiler.
    """
    plain = spec.numerics.precision == "float32" and not spec.numerics.compile and spec.batch_size is None
    return "tables" if plain and isinstance(net, TransformerNet) and net.has_tables(examples) else "layers"


def compiled(spec: RunSpec, net: nn.Module) -> nn.Module:
    """The network itself, compiled if the spec says so.

    Every shape of batch is compiled separately, so that a resumed run computes the same as an uninterrupted one.
    """
    if spec.numerics.compile:
        net.compile(dynamic=False)
    return net
