"""A real Prefect server and a real Ray cluster, started once and stopped at the end."""

from collections.abc import Iterator
from unittest import mock

import pytest


@pytest.fixture(scope="session")
def prefect_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Prefect's server with a database of its own; flows called in a test are recorded there."""
    from prefect.settings import PREFECT_FLOWS_HEARTBEAT_FREQUENCY, temporary_settings
    from prefect.testing.utilities import prefect_test_harness

    import specdyn.flows  # noqa: F401 - sets what Prefect reads at import
    from specdyn.flows.engine.ready_database import copy_ready, keep_ready

    folder = tmp_path_factory.mktemp("prefect-server")
    database = folder / "prefect-test.db"
    copied = copy_ready(database)
    with (
        mock.patch("prefect.testing.utilities.mkdtemp", return_value=str(folder)),
        prefect_test_harness(server_startup_timeout=120),
        temporary_settings({PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None}),
    ):
        if not copied:
            keep_ready(database)
        yield


@pytest.fixture(scope="module")
def ray_cluster() -> Iterator[None]:
    """Ray on this machine with two CPUs, and two GPUs that it believes in."""
    import specdyn.flows  # noqa: F401 - sets what Ray reads at import
    from specdyn.flows.engine.processes import started
    from specdyn.flows.engine.ray_cluster import ray, start_here

    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("CUDA_VISIBLE_DEVICES", raising=False)  # that tests hide GPUs is not for Ray, which counts them
        start_here(started().ray_folder, num_cpus=2, num_gpus=2)
    yield
    ray.shutdown()
