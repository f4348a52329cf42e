"""Files of writes that a killed process cut off: readers pass over them, cleaning removes those that are old."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import zarr

from specdyn.storage import probe
from specdyn.storage.access import objects
from specdyn.storage.access.lease import hold
from specdyn.storage.leftovers import remove_leftovers
from specdyn.storage.places import Store
from specdyn.storage.probe import require_store

ZARR = """
import os, pathlib, signal, sys, zarr
from specdyn.storage.access import objects
from specdyn.storage.access.lease import hold
array = zarr.create_array(objects.zarr_store(sys.argv[1]), shape=(4,), chunks=(2,), dtype="float64", fill_value=0)
array[:2] = 1
pathlib.Path.replace = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
array[2:] = 1
"""
OBJECT = """
import os, signal, sys
from specdyn.storage.access import objects
from specdyn.storage.access.lease import hold
os.replace = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
objects.write(f"{sys.argv[1]}/object", b"1234")
"""


def killed(program: str, folder: Path) -> list[Path]:
    """What a program leaves that is killed before its last write is in place."""
    ended = subprocess.run([sys.executable, "-c", program, str(folder)], check=False)
    assert ended.returncode == -signal.SIGKILL
    return list(folder.rglob("*.partial"))


def age(path: Path, seconds: float) -> None:
    then = time.time() - seconds
    os.utime(path, (then, then))


def test_a_killed_write_of_an_array_leaves_a_file_that_readers_pass_over(tmp_path: Path) -> None:
    (left,) = killed(ZARR, tmp_path)
    np.testing.assert_array_equal(zarr.open_array(tmp_path, mode="r")[:], [1, 1, 0, 0])
    size = left.stat().st_size
    assert remove_leftovers(Store(str(tmp_path))) == (0, 0), "it may be being written"
    age(left, 4000)
    assert remove_leftovers(Store(str(tmp_path))) == (1, size)
    assert not left.exists()
    np.testing.assert_array_equal(zarr.open_array(tmp_path, mode="r")[:], [1, 1, 0, 0])


def test_a_killed_write_of_an_object_leaves_no_name(tmp_path: Path) -> None:
    (left,) = killed(OBJECT, tmp_path)
    assert objects.names(str(tmp_path)) == []
    age(left, 4000)
    assert remove_leftovers(Store(str(tmp_path))) == (1, 4)


@pytest.mark.parametrize("name", ["step=1.safetensors", "thesis.pdf.partial", f"{'0' * 32}.partial.txt"])
def test_other_files_stay_however_old(tmp_path: Path, name: str) -> None:
    objects.write(f"{tmp_path}/a/{name}", b"somebody's")
    age(tmp_path / "a" / name, 1e6)
    assert remove_leftovers(Store(str(tmp_path)), 0.0) == (0, 0)
    assert objects.read(f"{tmp_path}/a/{name}") == b"somebody's"


def test_an_empty_store_has_none(tmp_path: Path) -> None:
    assert remove_leftovers(Store(str(tmp_path / "none"))) == (0, 0)


def test_what_units_shared_is_removed_where_no_call_is_at_work(tmp_path: Path) -> None:
    layout = Store(str(tmp_path))
    shared = Path(layout.scratch) / "x.safetensors"
    objects.write(str(shared), b"1234")
    assert remove_leftovers(Store(str(tmp_path))) == (0, 0), "a call may have begun just now"
    age(shared, 4000)
    with hold(layout.lease(layout.cube("g")), "g", print):
        assert remove_leftovers(Store(str(tmp_path))) == (0, 0)
    assert remove_leftovers(Store(str(tmp_path))) == (1, 4)
    assert not shared.exists()


@pytest.mark.parametrize("kind", ["local_store", "s3_store"])
def test_a_trial_of_a_store_that_was_killed_is_removed_an_hour_later(
    kind: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    store: Store = request.getfixturevalue(kind)
    with monkeypatch.context() as patch:
        patch.setattr(objects, "delete", lambda _: None)
        require_store(store.url)
    (left,) = [name for name in objects.names_below(store.url) if name != "specdyn.json"]
    assert remove_leftovers(store) == (0, 0), "it may be under way"
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 4000)
    assert remove_leftovers(store) == (1, len(probe.BODY))
    assert objects.names_below(store.url) == ["specdyn.json"]
    assert not objects.exists(f"{store}/{left.split('/')[0]}")
