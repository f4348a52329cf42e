"""A disk that is full, and files that may not be so large: what is said, what stays, and that the next call goes on."""

import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from helpers.branched import carry_out
from helpers.pipelines import NAME, ROOT, SMOKE, at_server, call, command
from helpers.products import arrays, differing, products
from specdyn.flows.parameters import SweepParameters
from specdyn.flows.studies import study_from
from specdyn.storage.places import Store

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(600)]

Analyses = tuple[str, ...]
Made = Callable[..., Path]
DISK = 8_000_000
ANALYSES = ("spectrum", "effective_rank", "agreement")
SWEEP = ("run", NAME, "--preset", "smoke", "-w", "1", "-s", "0", "--analyses", ",".join(ANALYSES))
LARGEST = 20
"""Kilobytes of a file, where files may not be larger: less than a checkpoint has."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """Where a disk becomes full: what is there, how many bytes are left, and the place that is named."""

    there: Analyses = ()
    """Analyses that were made before."""
    lacks: str = ""
    """What is missing of that all the same."""
    left: int
    named: str
    executor: str = "inline"


STAGES = {
    "train": Stage(left=150_000, named=r"/checkpoints/\S+: no space .*\(\d[\d,]+ bytes are needed", executor="ray"),
    "results": Stage(there=ANALYSES[:1], left=40_000, named=r"/results/\S+: no space .*\(\d[\d,]+ bytes are needed"),
    "cube": Stage(
        there=ANALYSES, lacks=f"studies/{SMOKE}/results.zarr", left=100_000, named=r"/results\.zarr\S*: no space"
    ),
    "report": Stage(there=ANALYSES, lacks=f"reports/{SMOKE}", left=80_000, named=r"/reports/\S+: no space .* needed"),
}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """A store with the sweep and its report, with some analyses first and more of them later, without any engine."""
    stores: dict[tuple[Analyses, ...], Path] = {}

    def of(*calls: Analyses) -> Path:
        if calls not in stores:
            store = tmp_path_factory.mktemp("made") / "store"
            for analyses in calls:
                asked = SweepParameters(
                    preset="smoke", weight_decays=[1.0], seeds=[0], analyses=list(analyses), store=str(store)
                )
                carry_out(study_from(asked), Store(str(store)), report=True)
            stores[calls] = store
        return stores[calls]

    return of


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A small disk of its own."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={DISK}", "tmpfs", str(place)], capture_output=True, text=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"no disk can be mounted here: {mounted.stderr.strip()}")
    yield place
    subprocess.run(["umount", "--lazy", str(place)], check=True)


@pytest.mark.parametrize("name", STAGES)
def test_a_full_disk_is_said_and_the_next_call_goes_on(
    name: str,
    disk: Path,
    made: Made,
    prefect_server: None,
    told: Callable[..., None],
) -> None:
    stage, store = STAGES[name], disk / "store"
    expected = products(str(made(*dict.fromkeys(filter(None, (stage.there, ANALYSES))))))
    if stage.there:
        shutil.copytree(made(stage.there), store)
        if stage.lacks:
            shutil.rmtree(store / stage.lacks)
    cube = Store(str(store)).cube(SMOKE)
    before = arrays(cube) if Path(cube).exists() else {}
    asked = (*SWEEP, "--store", str(store), "--executor", stage.executor)
    with filled(disk, stage.left):
        failed = call(*asked, env=at_server())
        assert before.items() <= (arrays(cube) if before else {}).items(), "what was there stays as it was"
    said = require_told(failed, stage.named)
    ended = call(*asked, env=at_server())
    assert ended.returncode == 0, ended.stderr
    wrong = differing(str(store), expected)
    told(said=said, wrong=wrong)
    assert wrong == []
    assert (store / "reports" / SMOKE / "index.html").exists()


def test_files_that_may_not_be_so_large_are_said_and_the_next_call_goes_on(
    tmp_path: Path, made: Made, prefect_server: None, told: Callable[..., None]
) -> None:
    store = str(tmp_path / "store")
    asked = (*SWEEP, "--store", store, "--executor", "inline")
    limited = ["bash", "-c", f'ulimit -f {LARGEST}; exec "$@"', "bash", *command(*asked)]
    environment = {**os.environ, **at_server()}
    failed = subprocess.run(
        limited, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False, env=environment
    )
    said = require_told(failed, r"/checkpoints/\S+: files may not be so large \([\d,]+ bytes are needed, see `ulimit")
    ended = call(*asked, env=at_server())
    assert ended.returncode == 0, ended.stderr
    wrong = differing(store, products(str(made(ANALYSES))))
    told(said=said, wrong=wrong)
    assert wrong == []


def require_told(failed: "subprocess.CompletedProcess[str]", pattern: str) -> str:
    """The line that says what failed; AssertionError where none does, or where a bug is reported."""
    everything = failed.stdout + failed.stderr
    assert failed.returncode in (1, 2), everything
    assert "Traceback" not in everything and "bug in specdyn" not in everything, everything
    lines = [line for line in everything.splitlines() if re.search(pattern, line)]
    assert lines and "free some space, then call again" in lines[-1], everything
    return lines[-1].strip()


@contextmanager
def filled(disk: Path, left: int) -> Iterator[None]:
    """Leave so many bytes of a disk free within the block."""
    filler = disk / "filler"
    with filler.open("wb") as file:
        file.write(bytes(shutil.disk_usage(disk).free - left))
    yield
    filler.unlink()
