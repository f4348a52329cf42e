"""Runs a function in several processes of one distributed training, with gloo, on this machine."""

import tempfile
import traceback
from collections.abc import Callable
from typing import Any

import torch.distributed as dist
from torch import multiprocessing


def together(act: Callable[..., Any], *arguments: Any, processes: int = 2) -> list[Any]:
    """The result of each process, by rank; AssertionError with the traceback if one raised."""
    context = multiprocessing.get_context("spawn")
    answers = context.SimpleQueue()
    with tempfile.TemporaryDirectory() as folder:  # a file, as a free port may be taken before they listen
        meeting = f"file://{folder}/meeting"
        started = [
            context.Process(target=_one, args=(rank, processes, meeting, answers, act, arguments))
            for rank in range(processes)
        ]
        for process in started:
            process.start()
        for process in started:
            process.join(timeout=240)
        hung = [process.pid for process in started if process.is_alive()]
        for process in started:
            process.kill()
    assert not hung, f"processes {hung} hang"
    found: dict[int, Any] = {}
    while not answers.empty():
        rank, value, error = answers.get()
        assert not error, error
        found[rank] = value
    return [found[rank] for rank in range(processes)]


def _one(rank: int, processes: int, meeting: str, answers: Any, act: Callable[..., Any], arguments: Any) -> None:
    dist.init_process_group("gloo", init_method=meeting, rank=rank, world_size=processes)
    try:
        answers.put((rank, act(*arguments), ""))
    except BaseException:
        answers.put((rank, None, traceback.format_exc()))
        raise
    finally:
        dist.destroy_process_group()
