"""The computing environment of this process: device, processor, threads, versions."""

import functools
import os
import platform
import re
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from importlib import metadata
from pathlib import Path

import torch

RECORDED = ("numpy", "zarr", "xarray", "safetensors")
"""Packages to record besides torch, whose metadata may omit the build, as in 2.13.0+cu130."""
_cpu_only: ContextVar[bool] = ContextVar("cpu_only", default=False)


def pick_device() -> torch.device:
    """The GPU if torch sees one, else the CPU; always the CPU inside `cpu_only`."""
    return torch.device("cuda" if not _cpu_only.get() and torch.cuda.is_available() else "cpu")


@contextmanager
def cpu_only() -> Iterator[None]:
    """Do not use GPUs: Ray shows all of them even to a task that requested none."""
    token = _cpu_only.set(True)
    try:
        yield
    finally:
        _cpu_only.reset(token)


def fix_cublas_workspace() -> None:
    """Make cuBLAS deterministic, which needs a workspace of fixed size.

    torch reads the environment once, at the first product on a GPU under deterministic algorithms, so code that turns
    them on must call this first.
    """
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")


def processor(device: torch.device, cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    """The model of a GPU, or of the CPU with the instruction set used by torch; the bits of results depend on it.

    If the system does not report the CPU's model, returns the architecture, e.g. `aarch64`.
    """
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    try:
        found = re.search(r"^model name\s*:\s*(.+)$", cpuinfo.read_text(), re.MULTILINE)
    except OSError:
        found = None
    model = re.sub(r"\((?:R|TM|tm)\)", "", found[1]) if found else platform.processor() or platform.machine()
    return f"{' '.join(model.split())} ({torch.backends.cpu.get_cpu_capability()})"


def use_threads(count: int) -> None:
    """Compute with that many threads, deterministically and in full float32."""
    fix_cublas_workspace()
    torch.set_num_threads(max(1, count))
    torch.set_deterministic_debug_mode("warn")  # `torch.use_deterministic_algorithms` would import the compiler
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False


def usable_cores() -> int:
    """The cores that this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on every system
        return os.cpu_count() or 1


def use_gpu_share(share: float) -> None:
    """Limit this process to its share of a GPU's memory, so that it fails rather than starving others."""
    if share > 0 and torch.cuda.is_available():
        torch.cuda.set_per_process_memory_fraction(min(share, 1.0))


def versions() -> dict[str, str]:
    """Versions of packages on which results may depend."""
    return dict(_versions())


@functools.cache
def _versions() -> dict[str, str]:
    found = {"python": platform.python_version(), "torch": str(torch.__version__)}
    for package in RECORDED:
        found[package] = metadata.version(package)
    return found
