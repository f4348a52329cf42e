"""A whole sweep by the command, on an S3 server that checks credentials, and back into plain xarray."""

import contextlib
import os
import sqlite3
from pathlib import Path

import fsspec
import numpy as np
import pytest
import xarray as xr

from helpers.pipelines import NAME, SMOKE, at_server, call
from helpers.servers import S3Server
from specdyn.storage.places import Store

pytestmark = pytest.mark.integration

FEW = ("--analyses", "spectrum,effective_rank,performance")
SWEEP = ("run", NAME, "--preset", "smoke", "--executor", "inline", *FEW)


@pytest.fixture
def swept(s3_store: Store, prefect_server: None) -> tuple[str, str]:
    """A store with the smoke sweep, and all that the command printed, debug logs and all; recorded by a server."""
    result = call(*SWEEP, "--store", s3_store.url, "--verbose", env=at_server())
    assert result.returncode == 0, result.stderr
    return s3_store.url, result.stdout + result.stderr


def test_a_sweep_goes_to_object_storage_and_is_read_back(
    swept: tuple[str, str], s3_server: S3Server, tmp_path: Path
) -> None:
    store, printed = swept
    cube = Store(store).cube(SMOKE)
    assert cube in printed.replace("\n", "")
    layers = xr.open_datatree(cube, engine="zarr")["layers"].to_dataset()
    assert np.isfinite(layers.effective_rank).all()
    assert sorted(layers.weight_decay.values) == [0.0, 1.0]
    _no_secret_anywhere(store, printed, s3_server)
    with s3_server.counted() as requests:
        again = call(*SWEEP, "--store", store, env={"PREFECT_HOME": str(tmp_path / "p2")})
    assert again.returncode == 0
    assert "2 runs already done: nothing to do" in again.stderr
    assert requests and [request for request in requests if not request.startswith(("GET", "HEAD"))] == []
    assert not (tmp_path / "p2").exists(), "Prefect was started to say that there is nothing to do"


def _no_secret_anywhere(store: str, printed: str, server: S3Server) -> None:
    """The secret key is in no object, no output and nothing that Prefect keeps."""
    from prefect.settings import PREFECT_SERVER_DATABASE_CONNECTION_URL

    secret = server.secret_key.encode()
    assert secret not in printed.encode()
    objects = fsspec.filesystem("s3")
    kept = [data for path in objects.find(store) if isinstance(data := objects.cat_file(path), bytes)]
    assert len(kept) > 50
    file = Path(str(PREFECT_SERVER_DATABASE_CONNECTION_URL.value()).removeprefix("sqlite+aiosqlite:///"))
    with contextlib.closing(sqlite3.connect(file)) as database:
        kept.append("\n".join(database.iterdump()).encode())
    assert store.encode() in kept[-1]
    assert not [data for data in kept if secret in data]


def test_without_credentials_the_sweep_is_refused(s3_store: Store) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        del os.environ[name]
    result = call(*SWEEP, "--store", s3_store.url)
    assert result.returncode == 2
    assert "no credentials; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY" in result.stderr.replace("\n", " ")


def test_with_wrong_credentials_the_sweep_is_refused(s3_store: Store) -> None:
    result = call(*SWEEP, "--store", s3_store.url, env={"AWS_SECRET_ACCESS_KEY": "wrong"})
    assert result.returncode == 2
    assert "error:" in result.stderr and "Traceback" not in result.stderr
