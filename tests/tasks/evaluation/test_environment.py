"""Device, threads and versions of this process."""

import dataclasses
import platform
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
import torch

from specdyn.storage.checkpoints import Manifest
from specdyn.tasks.evaluation import environment
from specdyn.tasks.evaluation.environment import pick_device, processor, use_gpu_share, use_threads, versions
from specdyn.tasks.identity import computed_on


@pytest.fixture
def settings() -> Iterator[None]:
    """Put torch's process-wide settings back after a test."""
    threads = torch.get_num_threads()
    deterministic = torch.are_deterministic_algorithms_enabled()
    matmul, cudnn = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    yield
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(deterministic)
    torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = matmul, cudnn


@pytest.mark.parametrize(("asked", "used"), [(1, 1), (2, 2), (0, 1)])
def test_threads_are_as_requested_and_at_least_one(asked: int, used: int, settings: None) -> None:
    use_threads(asked)
    assert torch.get_num_threads() == used


def test_computation_is_deterministic_and_in_full_float32(settings: None) -> None:
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    use_threads(1)
    assert torch.are_deterministic_algorithms_enabled()
    assert not torch.backends.cuda.matmul.allow_tf32
    assert not torch.backends.cudnn.allow_tf32


@pytest.mark.parametrize("there", [False, True])
def test_the_gpu_is_picked_where_torch_sees_one(there: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: there)
    assert pick_device().type == ("cuda" if there else "cpu")


def test_versions_name_everything_that_a_number_depends_on(monkeypatch: pytest.MonkeyPatch) -> None:
    # As the usual wheel on Linux: the build is in the module and not in the metadata.
    monkeypatch.setattr(torch, "__version__", f"{metadata.version('torch').partition('+')[0]}+cu130")
    monkeypatch.setattr(environment, "_versions", environment._versions.__wrapped__)
    found = versions()
    assert set(found) == {"python", "torch", "numpy", "zarr", "xarray", "safetensors"}
    assert found["numpy"] == metadata.version("numpy")
    assert found["torch"] == torch.__version__
    assert found["torch"].endswith("+cu130")


CPUINFO = """processor\t: 0
vendor_id\t: GenuineIntel
model name\t: Intel(R) Xeon(R)  Platinum 8488C CPU @ 2.40GHz
processor\t: 1
model name\t: another
"""


def test_a_cpu_is_named_by_its_model_and_the_instructions_that_torch_uses(tmp_path: Path) -> None:
    used = torch.backends.cpu.get_cpu_capability()
    (told, silent) = tmp_path / "told", tmp_path / "silent"
    told.write_text(CPUINFO)
    silent.write_text("processor\t: 0\nBogoMIPS\t: 100.00\n")
    cpu = torch.device("cpu")
    assert processor(cpu, told) == f"Intel Xeon Platinum 8488C CPU @ 2.40GHz ({used})"
    architecture = platform.processor() or platform.machine()
    assert processor(cpu, silent) == processor(cpu, tmp_path / "none") == f"{architecture} ({used})"


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({}, "AMD EPYC (AVX2), 1 thread, torch 2.13.0"),
        ({"threads": 4}, "AMD EPYC (AVX2), 4 threads, torch 2.13.0"),
        ({"processor": ""}, "cpu, 1 thread, torch 2.13.0"),
        ({"processor": "NVIDIA H100", "device": "cuda:0", "versions": {}}, "NVIDIA H100, 1 thread"),
    ],
    ids=str,
)
def test_what_a_run_was_computed_on_is_a_line(changes: dict[str, Any], line: str) -> None:
    manifest = Manifest(
        experiment="e",
        run_id="r",
        spec="{}",
        status="complete",
        checkpoints=(),
        device="cpu",
        processor="AMD EPYC (AVX2)",
        threads=1,
        seconds=1.0,
        versions={"torch": "2.13.0"},
    )
    assert computed_on(dataclasses.replace(manifest, **changes)) == line


@pytest.mark.parametrize(("share", "there", "bound"), [(0.25, True, [0.25]), (2.0, True, [1.0]), (0.25, False, [])])
def test_a_process_is_bound_to_its_share_of_the_gpu(
    share: float, there: bool, bound: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    set_to: list[float] = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: there)
    monkeypatch.setattr(torch.cuda, "set_per_process_memory_fraction", set_to.append)
    use_gpu_share(share)
    assert set_to == bound
