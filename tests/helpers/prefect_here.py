"""A Prefect server for flows in this process and its children."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest import mock

import specdyn.flows  # noqa: F401 - sets what Prefect reads at import
from specdyn.flows.engine.ready_database import copy_ready, keep_ready


@contextmanager
def prefect_here(folder: str | Path | None = None) -> Iterator[Path]:
    """Start a server with its own database in the folder, and yield the database's path; stop it at the end."""
    from prefect.settings import PREFECT_FLOWS_HEARTBEAT_FREQUENCY, temporary_settings
    from prefect.testing.utilities import prefect_test_harness

    place = Path(folder or tempfile.mkdtemp(prefix="specdyn-prefect-"))  # which the harness removes at the end
    database = place / "prefect-test.db"  # what the harness calls it
    copied = copy_ready(database)
    with (
        mock.patch("prefect.testing.utilities.mkdtemp", return_value=str(place)),
        prefect_test_harness(server_startup_timeout=120),
        temporary_settings({PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None}),
    ):
        if not copied:
            keep_ready(database)
        yield database
