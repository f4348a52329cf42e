"""Shares results among the processes of a distributed training."""

from collections.abc import Callable
from typing import Any, TypeVar

import torch.distributed as dist

T = TypeVar("T")


def is_first() -> bool:
    """Whether this is the first process of the training, or the only one."""
    return not _several() or dist.get_rank() == 0


def from_first(find: Callable[[], T]) -> T:
    """The result or error of `find` in the first process; all processes of the training must call this."""
    told: list[Any] = [None, None]
    if is_first():
        try:
            told = [find(), None]
        except Exception as error:  # noqa: BLE001 - raised below, in all processes
            told = [None, error]
    if _several():
        dist.broadcast_object_list(told, src=0)
    if told[1] is not None:
        raise told[1]
    return told[0]


def _several() -> bool:
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1
