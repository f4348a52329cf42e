"""What benchmarks share: a server that takes its time and counts, and tables."""

import contextlib
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from unittest.mock import patch

sys.path.insert(0, str(Path(__file__).parents[1]))  # helpers of tests import one another by this

from rich.console import Console
from rich.table import Table

from helpers.fault_proxy import FaultProxy, fault_proxy
from helpers.servers import S3Server, forget_clients, s3_server


@contextlib.contextmanager
def slow_server() -> Iterator[tuple[FaultProxy, S3Server]]:
    """An S3 server, and a proxy before it which the environment leads to: it counts, and can be made slow."""
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(s3_server(Path(stack.enter_context(tempfile.TemporaryDirectory()))))
        proxy = stack.enter_context(fault_proxy(server.endpoint))
        stack.enter_context(patch.dict(os.environ, {**server.environment, "AWS_ENDPOINT_URL_S3": proxy.endpoint}))
        forget_clients()
        stack.callback(forget_clients)
        yield proxy, server


def table(title: str, headings: Sequence[str], lines: Sequence[Sequence[str]]) -> None:
    """Print a table."""
    made = Table(*headings, title=title, title_justify="left")
    for line in lines:
        made.add_row(*line)
    Console(width=200).print(made)
