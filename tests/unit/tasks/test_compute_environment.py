"""Device, threads and versions of this process."""

from collections.abc import Iterator
from importlib import metadata

import pytest
import torch

from tasks import environment
from tasks.environment import pick_device, use_gpu_share, use_threads, versions


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
def test_threads_are_those_asked_for_and_at_least_one(asked: int, used: int, settings: None) -> None:
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


@pytest.mark.parametrize(("share", "there", "bound"), [(0.25, True, [0.25]), (2.0, True, [1.0]), (0.25, False, [])])
def test_a_process_is_bound_to_its_share_of_the_gpu(
    share: float, there: bool, bound: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    set_to: list[float] = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: there)
    monkeypatch.setattr(torch.cuda, "set_per_process_memory_fraction", set_to.append)
    use_gpu_share(share)
    assert set_to == bound
