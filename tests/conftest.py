"""Shared by all tests: an environment separate from the user's, hypothesis profiles, and an S3 server."""

import gc
import os
import shutil
import signal
import tempfile
import urllib.request
from pathlib import Path

PREFECT_HOME = tempfile.mkdtemp(prefix="specdyn-prefect-")
THREADS = os.environ.get("TEST_THREADS", "1")
ENVIRONMENT = {
    "OMP_NUM_THREADS": THREADS,
    "MKL_NUM_THREADS": THREADS,
    "OPENBLAS_NUM_THREADS": THREADS,
    "PREFECT_HOME": PREFECT_HOME,
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "DO_NOT_TRACK": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
    "AWS_EC2_METADATA_DISABLED": "true",
    "AWS_CONFIG_FILE": os.devnull,
    "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
    "COLUMNS": "250",  # a console keeps the width at its creation, by whichever test is first
}
if "SPECDYN_TEST_GPU" not in os.environ:
    ENVIRONMENT["CUDA_VISIBLE_DEVICES"] = ""  # bitwise expected values were computed on CPUs
USERS_OWN = ("AWS_", "PREFECT_", "RAY_ADDRESS", "RAY_AUTH")


def _separate() -> None:
    for name in [name for name in os.environ if name.startswith(USERS_OWN)]:
        del os.environ[name]
    os.environ.update(ENVIRONMENT)
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # dozens of processes would each compile all modules
    # A shell makes background processes ignore Ctrl-C, and every program of the tests would inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)


gc.disable()  # until the tests are collected: imports produce hardly any garbage
_separate()  # before numpy, torch, prefect or ray are imported, as they read the environment

from collections.abc import Generator, Iterator  # noqa: E402

import pytest  # noqa: E402
from hypothesis import HealthCheck, settings  # noqa: E402

from helpers.order import place  # noqa: E402
from helpers.servers import S3Server, forget_clients  # noqa: E402
from helpers.servers import s3_server as running_s3_server  # noqa: E402
from specdyn.storage.places import Store  # noqa: E402

settings.register_profile("default", max_examples=30, deadline=None)
settings.register_profile(
    "ci", max_examples=50, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci" if os.environ.get("CI") else "default"))


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Exclude everything imported so far from garbage collection, which would scan it each time."""
    try:
        return (yield)
    finally:
        gc.collect()
        gc.freeze()
        gc.enable()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run the longest files first, so that no process is left with one at the end."""
    items.sort(key=lambda item: place(item.path))


def pytest_unconfigure() -> None:
    """Remove Prefect's folder of this session."""
    shutil.rmtree(PREFECT_HOME, ignore_errors=True)


@pytest.fixture(autouse=True)
def environment() -> Iterator[None]:
    """Give every test the same environment, whatever earlier tests did."""
    before = dict(os.environ)
    yield
    for name in set(os.environ) - set(before):
        del os.environ[name]
    os.environ.update(before)
    urllib.request.install_opener(None)  # type: ignore[arg-type]  # it keeps the proxies it was made with


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """An S3 server that refuses missing and wrong credentials and honours If-None-Match."""
    with running_s3_server(tmp_path_factory.mktemp("s3")) as server:
        yield server


@pytest.fixture(scope="session")
def careless_s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """An S3 server that ignores If-None-Match, as many do."""
    with running_s3_server(tmp_path_factory.mktemp("careless-s3"), honours_conditions=False) as server:
        yield server


@pytest.fixture
def fresh_clients() -> Iterator[None]:
    """Forget S3 clients before and after a test, since they keep the environment in which they were made."""
    forget_clients()
    yield
    forget_clients()


@pytest.fixture
def s3_store(s3_server: S3Server, fresh_clients: None, monkeypatch: pytest.MonkeyPatch) -> Store:
    """A store with its own prefix on the S3 server; endpoint and keys are in the environment."""
    for name, value in s3_server.environment.items():
        monkeypatch.setenv(name, value)
    return Store(s3_server.fresh_store())


@pytest.fixture
def careless_s3_store(careless_s3_server: S3Server, fresh_clients: None, monkeypatch: pytest.MonkeyPatch) -> Store:
    """The same on the server that ignores If-None-Match."""
    for name, value in careless_s3_server.environment.items():
        monkeypatch.setenv(name, value)
    return Store(careless_s3_server.fresh_store())


@pytest.fixture
def local_store(tmp_path: Path) -> Store:
    """A store in a temporary folder."""
    return Store(str(tmp_path / "store"))


@pytest.fixture(scope="session")
def prefect_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Prefect's server with its own database; flows called in a test are recorded there."""
    from helpers.prefect_here import prefect_here

    with prefect_here(tmp_path_factory.mktemp("prefect-server")):
        yield
