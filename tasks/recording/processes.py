"""The processes of one training: what the first one finds out, all of them know."""

from collections.abc import Callable
from typing import Any, TypeVar

import torch.distributed as dist

T = TypeVar("T")


def is_first() -> bool:
    """Whether this is the first process of the training, or the only one."""
    return not _several() or dist.get_rank() == 0


def from_first(find: Callable[[], T]) -> T:
    """What `find` returns, or raises, in the first process; all processes of the training call this."""
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
