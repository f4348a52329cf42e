"""Whole studies on an S3 server that refuses requests, cuts connections and breaks answers off."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

import specdyn
from helpers.branched import carry_out, graph_in
from helpers.fault_proxy import RATES, FaultProxy, fault_proxy
from helpers.pipelines import call, sweep
from helpers.products import differing, products
from helpers.servers import S3Server, forget_clients

pytestmark = [pytest.mark.integration, pytest.mark.scenario]


@pytest.fixture
def proxy(s3_server: S3Server, fresh_clients: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultProxy]:
    """A proxy before the S3 server, which the environment leads to."""
    with fault_proxy(s3_server.endpoint) as running:
        for name, value in s3_server.environment.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", running.endpoint)
        yield running
        forget_clients()


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory, prefect_server: None) -> xr.DataTree:
    """The results of the smoke sweep on a local folder."""
    return opened(str(tmp_path_factory.mktemp("quiet") / "store"))


def opened(store: str) -> xr.DataTree:
    """The results of one run of the smoke sweep, which is made first."""
    done = sweep(store, executor="inline", weight_decays=[1.0], analyses=["spectrum", "effective_rank"])
    return specdyn.open(done.cube).load()


@pytest.mark.parametrize("rate", RATES)
def test_a_sweep_ends_with_the_results_of_a_good_server(
    expected: xr.DataTree, proxy: FaultProxy, s3_server: S3Server, rate: str
) -> None:
    proxy.faults(**RATES[rate])
    found = opened(s3_server.fresh_store())
    assert set(proxy.happened) == {"slow down", "cut before", "cut after", "truncated"}
    assert found.groups == expected.groups
    for group in found.groups:
        assert set(found[group].variables) == set(expected[group].variables)
        for name, variable in found[group].variables.items():
            np.testing.assert_array_equal(variable, expected[group].variables[name], strict=True)


def test_forks_end_with_the_results_of_a_good_server(proxy: FaultProxy, s3_server: S3Server, tmp_path: Path) -> None:
    """`make test-chaos` does it with every kind of study, by commands whose processes are killed as well."""
    quiet, store = str(tmp_path / "quiet"), s3_server.fresh_store()
    carry_out(*graph_in(quiet, "connect"))
    proxy.faults(**RATES["30 %"] | {"latency": 0.0})
    carry_out(*graph_in(store, "connect"))
    assert proxy.happened.total() > 30
    proxy.quiet()
    assert differing(store, products(quiet)) == []


def test_the_command_finds_a_busy_store_good(proxy: FaultProxy, s3_server: S3Server) -> None:
    store = s3_server.fresh_store()
    proxy.faults(**RATES["30 %"])
    result = call("storage", "check", store)
    assert result.returncode == 0, result.stderr
    assert "1 of 8 won" in result.stdout
    assert "error" not in result.stdout and "warning" not in result.stdout
