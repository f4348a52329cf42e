"""Shared by integration tests of flows: a grid that takes seconds, and the command as a process."""

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from specdyn.flows.outcome import Outcome

ROOT = Path(__file__).resolve().parents[2]
NAME = "modular_addition"
SMOKE = f"{NAME}-smoke"


def command(*arguments: str, driver: bool = False) -> list[str]:
    """The `specdyn` command; with `driver`, with the additional preset `long` of a few thousand quick steps."""
    start = [str(Path(__file__).with_name("long_preset.py"))] if driver else ["-m", "specdyn"]
    return [sys.executable, *start, *arguments]


def call(
    *arguments: str, env: Mapping[str, str] | None = None, driver: bool = False, seconds: int = 480
) -> "subprocess.CompletedProcess[str]":
    """Run the command to its end from the repository."""
    return subprocess.run(
        command(*arguments, driver=driver),
        env={**os.environ, **(env or {})},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=seconds,
        check=False,
    )


def at_server() -> dict[str, str]:
    """The variable by which a command uses the tests' Prefect server, instead of one that it starts."""
    from prefect.settings import PREFECT_API_URL

    return {"PREFECT_API_URL": str(PREFECT_API_URL.value())}


def sweep(store: str, **parameters: Any) -> "Outcome":
    """The flow on the smoke preset."""
    from specdyn.flows.sweep import weight_decay_sweep

    outcome: Outcome = weight_decay_sweep(
        **{"experiment": NAME, "preset": "smoke", "store": store, "report": False, **parameters}
    )
    return outcome


def files(folder: str | Path) -> dict[str, bytes]:
    """Every file below a folder by its path, except leases, as every call leaves one."""
    found = (path for path in sorted(Path(folder).rglob("*")) if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in found if "leases" not in path.parts}


def weights_files(store: Path) -> list[Path]:
    """The weights of all checkpoints so far, even during writes: nothing ever vanishes from this folder."""
    return [path for path in (store / "checkpoints").rglob("step=*.safetensors") if path.parent.name != "state"]
