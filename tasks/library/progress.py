"""A progress bar on standard error, only in a terminal or a notebook."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def counted(what: str, total: int, progress: bool = True) -> Iterator[Callable[[int], None]]:
    """Show a bar of `total`; yields a function to call with the number of newly finished items. Removed at the end."""
    from rich.console import Console

    console = Console(stderr=True)
    if not (progress and (console.is_terminal or console.is_jupyter)):
        yield lambda _: None
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task(what, total=total)
        yield lambda count: bar.advance(task, count)
