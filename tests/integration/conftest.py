"""A real Prefect server and a real Ray cluster, started once and stopped at the end."""

from collections.abc import Iterator

import pytest


@pytest.fixture(scope="session")
def prefect_server() -> Iterator[None]:
    """Prefect's server with a database of its own; flows called in a test are recorded there."""
    from prefect.settings import PREFECT_FLOWS_HEARTBEAT_FREQUENCY, temporary_settings
    from prefect.testing.utilities import prefect_test_harness

    import specdyn.flows  # noqa: F401 - sets what Prefect reads at import

    with (
        prefect_test_harness(server_startup_timeout=120),
        temporary_settings({PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None}),
    ):
        yield


@pytest.fixture(scope="module")
def ray_cluster() -> Iterator[None]:
    """Ray on this machine with two CPUs, and two GPUs that it believes in."""
    import ray

    import specdyn.flows  # noqa: F401

    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("CUDA_VISIBLE_DEVICES", raising=False)  # that tests hide GPUs is not for Ray, which counts them
        ray.init(num_cpus=2, num_gpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    yield
    ray.shutdown()
