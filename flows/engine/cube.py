"""The lease of a study's cube in the hands of a flow."""

import contextlib
import logging
from collections.abc import Iterator

from prefect import get_run_logger
from rich.console import Console

from specdyn.storage.access.lease import Lease, hold
from specdyn.storage.places import Store


@contextlib.contextmanager
def cube_lease(cube: str, store: Store) -> Iterator[Lease]:
    """Hold the lease of a cube, by its URL, and of all that it is made of; waits while another call holds it.

    One line says whom it waits for, in the flow's log and, where the terminal does not show that log, on the terminal.
    """
    with hold(store.lease(cube), cube.rsplit("/", 2)[-2], _say) as lease:
        yield lease


def _say(line: str) -> None:
    logger = get_run_logger()
    logger.info(line)
    if not _on_terminal(logging.getLogger("prefect.flow_runs")):
        Console(stderr=True).print(line, highlight=False, soft_wrap=True)


def _on_terminal(logger: logging.Logger) -> bool:
    """Whether the terminal shows what this logger says at the level of information."""
    here = any(isinstance(each, logging.StreamHandler) and each.level <= logging.INFO for each in logger.handlers)
    return here or bool(logger.propagate and logger.parent and _on_terminal(logger.parent))
