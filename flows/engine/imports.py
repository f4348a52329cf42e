"""Imports that take seconds, in less time."""

import contextlib
import gc
from collections.abc import Iterator


@contextlib.contextmanager
def importing() -> Iterator[None]:
    """Import in this block what is large: nothing of it is garbage, and to look for some takes a third of the time.

    What is there afterwards, garbage of before included, is not looked through again, which shortens the end of the
    process as well.
    """
    collecting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if collecting:
            gc.enable()
