"""What a worker of Ray runs for each unit; it alone imports torch, and knows nothing of Prefect."""

import contextlib
from collections.abc import Callable, Sequence
from typing import Any

from specdyn.flows.engine.resources import NotEnoughResources
from specdyn.flows.engine.unit_log import Recorded, recorded
from specdyn.tasks.ledger.metering import Spent, metered

Answer = tuple[Any, tuple[Any, ...], list[str]]
"""A value, what it took (the fields of Spent), and lines of the log: plain, as classes take long to pickle."""


def run_unit(function: Callable[..., Any], threads: int, gpus: float | None, *args: Any) -> Any:
    """Call a function with that many threads and that share of a GPU's memory; what every worker runs.

    With 0 GPUs it computes on the CPU, with None on what torch sees.
    """
    import torch

    from specdyn.tasks.evaluation.environment import cpu_only, use_gpu_share, use_threads

    use_threads(threads)
    use_gpu_share(gpus or 0.0)
    try:
        with cpu_only() if gpus == 0 else contextlib.nullcontext():
            return function(*args)
    except torch.OutOfMemoryError as error:
        raise NotEnoughResources(
            f"gpus={gpus or 1:g} of each unit: its share of the memory is too small ({str(error).splitlines()[0]}); "
            "ask for a larger share, or for smaller batches"
        ) from error


def answer(function: Callable[..., Any], threads: int, gpus: float, args: Sequence[Any]) -> Answer:
    """What a call gave, took and logged, to be sent to another process."""
    (value, spent), lines = recorded(run_unit, metered, threads, gpus, gpus or 1.0, function, *args)
    return value, tuple(spent), lines


def answered(given: Answer) -> Recorded:
    """The same where it has arrived."""
    value, spent, lines = given
    return Recorded((value, Spent(*spent)), lines)


def filled(args: Sequence[Any], places: Sequence[int], results: Sequence[Any]) -> list[Any]:
    """The arguments of a call with the results of others in their places."""
    whole = list(args)
    for place, result in zip(places, results, strict=True):
        whole[place] = result
    return whole
