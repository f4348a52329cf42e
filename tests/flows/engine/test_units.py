"""Units of work: what a worker is given, and what it says when that is not enough."""

import pytest
import torch

from specdyn.flows.engine.resources import NotEnoughResources
from specdyn.flows.engine.worker import run_unit
from specdyn.tasks.evaluation.environment import pick_device


def test_a_unit_that_outgrows_its_share_of_a_gpu_says_what_to_ask_for() -> None:
    def outgrow() -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 3 GiB.\nMore.")

    with pytest.raises(NotEnoughResources, match=r"gpus=0.25 .* too small \(CUDA out of memory.*\); request a larger"):
        run_unit(outgrow, 1, 0.25)


@pytest.mark.parametrize(("gpus", "device"), [(0, "cpu"), (None, "cuda")])
def test_a_unit_without_gpus_computes_on_the_cpu_also_where_ray_shows_it_one(
    gpus: float | None, device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert run_unit(pick_device, torch.get_num_threads(), gpus).type == device
