"""A real Prefect server and a real Ray cluster, started once and stopped at the end."""

from collections.abc import Iterator

import pytest


@pytest.fixture(scope="session")
def prefect_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Prefect's server with a database of its own; flows called in a test are recorded there."""
    from helpers.prefect_here import prefect_here

    with prefect_here(tmp_path_factory.mktemp("prefect-server")):
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
