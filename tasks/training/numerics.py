"""How a run computes on a device: precision, determinism, compilation."""

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
"""What torch does about operations that are not deterministic, by its own numbers."""


@contextmanager
def numerics(spec: RunSpec, device: torch.device) -> Iterator[None]:
    """Deterministic kernels and TensorFloat-32 as the spec has them, and as they were afterwards.

    What is drawn at random inside leaves no trace outside.
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
        memory.fill_uninitialized_memory = False  # costs time, and no bit depends on it
        with generators.kept(device):
            yield
    finally:
        _set_deterministic(mode, compiles)
        products.allow_tf32, convolutions.allow_tf32, memory.fill_uninitialized_memory = before


def _set_deterministic(mode: int, compiles: bool) -> None:
    """Set torch's mode, and that of its compiler where one is used: its import takes longer than torch's own."""
    if compiles:
        torch.use_deterministic_algorithms(mode != OFF, warn_only=mode == WARN)
    else:
        torch.set_deterministic_debug_mode(mode)


def autocast(spec: RunSpec, device: torch.device) -> torch.autocast:
    """Forward and loss in the spec's precision; ValueError for float16 on the CPU, whose losses nothing could scale."""
    precision = spec.numerics.precision
    fits = precision != "float16" or device.type == "cuda"
    require(fits, "precision", precision, f"float32 or bfloat16 on the {device.type}; float16 needs a GPU")
    return torch.autocast(device.type, DTYPES.get(precision), enabled=precision in DTYPES)


def choose_forward(spec: RunSpec, net: nn.Module, examples: int) -> str:
    """How outputs are computed in training: `tables` where that is the same function for less work, else `layers`.

    Tables need full batches of a network that has them, float32, and no compiler.
    """
    plain = spec.numerics.precision == "float32" and not spec.numerics.compile and spec.batch_size is None
    return "tables" if plain and isinstance(net, TransformerNet) and net.has_tables(examples) else "layers"


def compiled(spec: RunSpec, net: nn.Module) -> nn.Module:
    """The network itself, which computes by compiled kernels from now on where the spec says so.

    Every shape of batch is compiled apart, so that a resumed run computes as one that was never stopped.
    """
    if spec.numerics.compile:
        net.compile(dynamic=False)
    return net
