"""Units of work: what a worker is given, and what it says when that is not enough."""

import pytest
import torch

from flows.capacity import NotEnoughResources
from flows.runtime import run_unit


def test_a_unit_that_outgrows_its_share_of_a_gpu_says_what_to_ask_for() -> None:
    def outgrow() -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 3 GiB.\nMore.")

    with pytest.raises(NotEnoughResources, match=r"gpus=0.25 .* too small \(CUDA out of memory.*\); ask for a larger"):
        run_unit(outgrow, 1, 0.25)
