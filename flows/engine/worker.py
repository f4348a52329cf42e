"""Runs a unit in a Ray worker; imports torch but not Prefect."""

import contextlib
from collections.abc import Callable, Sequence
from typing import Any

from specdyn.flows.engine.resources import NotEnoughResources
from specdyn.flows.engine.unit_log import Recorded, recorded
from specdyn.tasks.ledger.metering import Spent, metered

Answer = tuple[Any, tuple[Any, ...], list[str]]
"""A value, its cost (the fields of Spent), and log lines; plain types, as classes are slow to pickle."""


def run_unit(function: Callable[..., Any], threads: int, gpus: float | None, *args: Any) -> Any:
    """Call a function with that many threads and that share of a GPU's memory; the entry point of every worker.

    With 0 GPUs it computes on the CPU, with None on the device that torch sees.
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
            f"gpus={gpus or 1:g} per task: this share of the memory is too small ({str(error).splitlines()[0]}); "
            "request a larger share, or use smaller batches"
        ) from error


def answer(function: Callable[..., Any], threads: int, gpus: float, args: Sequence[Any]) -> Answer:
    """The value, cost and log of a call, to be sent to another process."""
    (value, spent), lines = recorded(run_unit, metered, threads, gpus, gpus or 1.0, function, *args)
    return value, tuple(spent), lines


def answered(given: Answer) -> Recorded:
    """Unpack an answer from another process."""
    value, spent, lines = given
    return Recorded((value, Spent(*spent)), lines)


def filled(args: Sequence[Any], places: Sequence[int], results: Sequence[Any]) -> list[Any]:
    """The arguments of a call, with the results of other calls inserted."""
    whole = list(args)
    for place, result in zip(places, results, strict=True):
        whole[place] = result
    return whole
