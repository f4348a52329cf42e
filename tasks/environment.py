"""What this process computes with: device, processor, threads, versions."""

import functools
import platform
import re
from importlib import metadata
from pathlib import Path

import torch

from storage.checkpoints import Manifest

RECORDED = ("torch", "numpy", "zarr", "xarray", "safetensors")


def pick_device() -> torch.device:
    """The GPU where torch sees one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def processor(device: torch.device, cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    """The model of a GPU, or of the CPU with the instruction set that torch uses of it: what results' bits depend on.

    Where the system does not tell the model of its CPU it is the architecture, e.g. `aarch64`.
    """
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    try:
        found = re.search(r"^model name\s*:\s*(.+)$", cpuinfo.read_text(), re.MULTILINE)
    except OSError:
        found = None
    model = re.sub(r"\((?:R|TM|tm)\)", "", found[1]) if found else platform.processor() or platform.machine()
    return f"{' '.join(model.split())} ({torch.backends.cpu.get_cpu_capability()})"


def computed_on(manifest: Manifest) -> str:
    """What a run was trained on, in a line; runs that are equal in it have equal bits."""
    threads = f"{manifest.threads} {'thread' if manifest.threads == 1 else 'threads'}"
    torch_version = manifest.versions.get("torch")
    where = manifest.processor or manifest.device
    return ", ".join([where, threads, *([f"torch {torch_version}"] if torch_version else [])])


def use_threads(count: int) -> None:
    """Compute with that many threads, deterministically and in full float32."""
    torch.set_num_threads(max(1, count))
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False


def use_gpu_share(share: float) -> None:
    """Bound this process to its share of a GPU's memory, so that it fails itself before it starves a neighbour."""
    if share > 0 and torch.cuda.is_available():
        torch.cuda.set_per_process_memory_fraction(min(share, 1.0))


def versions() -> dict[str, str]:
    """Versions that a number may depend on."""
    return dict(_versions())


@functools.cache
def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for package in RECORDED:
        found[package] = metadata.version(package)
    return found
