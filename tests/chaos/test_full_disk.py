"""A disk that is full, and files that may not be so large: what is said, what stays, and that the next call goes on."""

import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from helpers.branched import COMMANDS, carry_out
from helpers.pipelines import NAME, ROOT, at_server, call, command
from helpers.products import arrays, differing, products
from specdyn.flows.parameters import ConnectParameters, Parameters, SweepParameters, TicketParameters
from specdyn.flows.studies import study_from
from specdyn.storage.places import Store

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(600)]

Kinds = tuple[str, ...]
BEGUN, WHOLE = "begun", ("whole",)
Made = Callable[..., Path]
DISK = 8_000_000
SWEEP = {"weight_decays": [1.0], "analyses": ["spectrum", "effective_rank", "agreement"]}
FIRST = SWEEP | {"analyses": ["spectrum"]}
"""The sweep as it was asked for at first."""
COMMON: dict[str, Any] = {"preset": "smoke", "seeds": [0]}
OF_A_GRAPH = COMMON | {"orders": [3, 4], "settings": {"steps": 20, "checkpoint_every": 10}}
LARGEST = 20
"""Kilobytes of a file, where files may not be larger: less than a checkpoint has."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A study, by its command and by its parameters; `begun` are those of a smaller one that it contains."""

    command: tuple[str, ...]
    asked: Callable[[str], Parameters]
    begun: Callable[[str], Parameters] | None = None


CASES = {
    "sweep": Case(
        command=("run", NAME, "-p", "smoke", "-w", "1", "-s", "0", "--analyses", "spectrum,effective_rank,agreement"),
        asked=lambda store: SweepParameters(**COMMON, **SWEEP, store=store),
        begun=lambda store: SweepParameters(**COMMON, **FIRST, store=store),
    ),
    "connect": Case(
        command=COMMANDS["connect"],
        asked=lambda store: ConnectParameters(**OF_A_GRAPH, splits=[10], store=store),
    ),
    "tickets": Case(
        command=COMMANDS["tickets"],
        asked=lambda store: TicketParameters(
            **OF_A_GRAPH, rewind=10, densities=[0.5], masks=["magnitude", "random"], store=store
        ),
    ),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """Where a disk becomes full: what is there, how many bytes are left, and the place that is named."""

    case: str = "sweep"
    there: Kinds = ()
    """What was done before: kinds of units, the study as it was at first, or the whole of it."""
    lacks: str = ""
    """What is missing of that all the same, as a pattern."""
    left: int
    named: str
    executor: str = "inline"


NEEDED = r"no space .*\(\d[\d,]+ bytes are needed"
STAGES = {
    "train": Stage(left=150_000, named=rf"/checkpoints/\S+: {NEEDED}", executor="ray"),
    "results": Stage(there=(BEGUN,), left=40_000, named=rf"/results/\S+: {NEEDED}"),
    "cube": Stage(there=WHOLE, lacks="studies/*/results.zarr", left=100_000, named=r"/\S*results\.zarr\S*: no space"),
    "report": Stage(there=WHOLE, lacks="reports/*", left=80_000, named=r"/reports/\S+: no space .* needed"),
    "trunks": Stage(case="connect", left=150_000, named=rf"/checkpoints/\S+: {NEEDED}"),
    "branches": Stage(case="connect", there=("trunks",), left=60_000, named=rf"/checkpoints/\S+: {NEEDED}"),
    "factors": Stage(case="connect", there=("trunks", "branches"), left=60_000, named=rf"/scratch/\S+: {NEEDED}"),
    "pairs": Stage(
        case="connect",
        there=("trunks", "branches", "factors", "ends"),
        left=16_000,
        named=rf"/results/pairs/\S+: {NEEDED}",
    ),
    "lines": Stage(
        case="connect",
        there=WHOLE,
        lacks="studies/*/connectivity.zarr",
        left=100_000,
        named=r"/\S*connectivity\.zarr\S*: no space",
    ),
    "masked": Stage(case="tickets", there=("trunks",), left=60_000, named=rf"/checkpoints/\S+: {NEEDED}"),
    "masks": Stage(
        case="tickets", there=("trunks", "branches", "factors"), left=16_000, named=rf"/masks/\S+: {NEEDED}"
    ),
    "compared": Stage(
        case="tickets",
        there=WHOLE,
        lacks="results/tickets",
        left=100_000,
        named=rf"/(scratch|results/tickets)/\S+: {NEEDED}",  # the cube is written meanwhile, and takes its share
    ),
    "tickets": Stage(
        case="tickets",
        there=WHOLE,
        lacks="studies/*/tickets.zarr",
        left=100_000,
        named=r"/\S*tickets\.zarr\S*: no space",
    ),
}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """A store with a study, with what it was at first, or with some kinds of its units, made without any engine."""
    stores: dict[tuple[str, Kinds], Path] = {}

    def of(case: str, kinds: Kinds = WHOLE) -> Path:
        if (case, kinds) not in stores:
            store = str(tmp_path_factory.mktemp("made") / "store")
            if (begun := CASES[case].begun) and BEGUN in kinds:
                carry_out(study_from(begun(store)), Store(store), report=True)
            if only := set(kinds) - {BEGUN, *WHOLE}:
                carry_out(study_from(CASES[case].asked(store)), Store(store), only=only)
            if set(WHOLE) <= set(kinds):
                carry_out(study_from(CASES[case].asked(store)), Store(store), report=True)
            stores[case, kinds] = Path(store)
        return stores[case, kinds]

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
    # First, as this removes what units of the whole study share.
    expected = products(str(made(stage.case, (BEGUN, *WHOLE) if BEGUN in stage.there else WHOLE)))
    if stage.there:
        shutil.copytree(made(stage.case, stage.there), store)
        for lacking in store.glob(stage.lacks) if stage.lacks else ():
            shutil.rmtree(lacking)
    cubes = [str(path) for path in store.glob("studies/*/*.zarr")]
    before = {cube: arrays(cube) for cube in cubes}
    if stage.lacks.startswith("results/"):  # then rows are not done any longer, and keep their numbers
        before = {
            cube: {name: array for name, array in found.items() if not name.endswith("/status")}
            for cube, found in before.items()
        }
    asked = (*CASES[stage.case].command, "--store", str(store), "--executor", stage.executor)
    with filled(disk, stage.left):
        failed = call(*asked, env=at_server())
        require_readable(store, expected)
        for cube in cubes:
            assert before[cube].items() <= arrays(cube).items(), "what was there stays as it was"
    said = require_told(failed, str(store), stage.named)
    ended = call(*asked, env=at_server())
    assert ended.returncode == 0, ended.stderr
    wrong = differing(str(store), expected)
    told(said=said, wrong=wrong)
    assert wrong == []
    assert list(store.glob("reports/*/*.html"))


@pytest.mark.parametrize("case", CASES)
def test_files_that_may_not_be_so_large_are_said_and_the_next_call_goes_on(
    case: str, tmp_path: Path, made: Made, prefect_server: None, told: Callable[..., None]
) -> None:
    store = tmp_path / "store"
    if case != "sweep":  # so that a branch cannot be written
        shutil.copytree(made(case, ("trunks",)), store)
    expected = products(str(made(case)))
    asked = (*CASES[case].command, "--store", str(store), "--executor", "inline")
    limited = ["bash", "-c", f'ulimit -f {LARGEST}; exec "$@"', "bash", *command(*asked)]
    environment = {**os.environ, **at_server()}
    failed = subprocess.run(
        limited, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False, env=environment
    )
    require_readable(store, expected)
    named = r"/checkpoints/\S+: files may not be so large \([\d,]+ bytes are needed, see `ulimit"
    said = require_told(failed, str(store), named)
    ended = call(*asked, env=at_server())
    assert ended.returncode == 0, ended.stderr
    wrong = differing(str(store), expected)
    told(said=said, wrong=wrong)
    assert wrong == []


def require_readable(store: Path, expected: Mapping[str, bytes]) -> None:
    """AssertionError where a checkpoint, mask or result that is there has other bytes than it is to have."""
    there = {key: path.read_bytes() for key in expected if (path := store / key).is_file() and expected[key]}
    assert [key for key, found in there.items() if found != expected[key]] == []


def require_told(failed: "subprocess.CompletedProcess[str]", store: str, named: str) -> str:
    """The line that says what failed; AssertionError where none does, or where a bug is reported."""
    everything = failed.stdout + failed.stderr
    assert failed.returncode in (1, 2), everything
    assert "Traceback" not in everything and "bug in specdyn" not in everything, everything
    lines = [line for line in everything.splitlines() if re.search(re.escape(store) + named, line)]
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
