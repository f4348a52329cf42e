"""Units a second of our fan-out, called from a Prefect task, against bare Ray."""

import time

import ray
from prefect import flow, task
from prefect.cache_policies import NO_CACHE
from prefect.testing.utilities import prefect_test_harness

from specdyn.flows.engine.executor import RayExecutor
from specdyn.flows.resources import Resources

UNITS = 400
ROUNDS = 3


def nothing(number: int) -> int:
    """A unit that costs nothing."""
    return number


@task(cache_policy=NO_CACHE, persist_result=False)
def ours(executor: RayExecutor) -> float:
    """Units a second through the executor."""
    results: list[int] = []
    since = time.perf_counter()
    executor.run_all(nothing, [(i,) for i in range(UNITS)], results.append)
    assert sorted(results) == list(range(UNITS))
    return UNITS / (time.perf_counter() - since)


@task(cache_policy=NO_CACHE, persist_result=False)
def bare() -> float:
    """Units a second of Ray alone, all submitted at once."""
    remote = ray.remote(nothing)
    since = time.perf_counter()
    assert ray.get([remote.remote(i) for i in range(UNITS)]) == list(range(UNITS))
    return UNITS / (time.perf_counter() - since)


@flow(persist_result=False)
def measure() -> tuple[float, float]:
    """The best of several rounds of each, alternating."""
    executor = RayExecutor(Resources())
    ours(executor)
    bare()
    pairs = [(bare(), ours(executor)) for _ in range(ROUNDS)]
    return max(plain for plain, _ in pairs), max(mine for _, mine in pairs)


def rows() -> list[tuple[str, str, str, str, str]]:
    """One row: units of work a second."""
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    try:
        with prefect_test_harness(server_startup_timeout=120):
            plain, mine = measure()
    finally:
        ray.shutdown()
    how = f"{UNITS} empty units from a Prefect task, bounded in flight, best of {ROUNDS}, alternating"
    return [("fan-out, units/s", f"{plain:.0f}", f"{mine:.0f}", f"{mine / plain:.2f}x", how)]
