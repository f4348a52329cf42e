"""What digests cost: a smoke sweep as it is, and one that computes none of what is written or read.

Without, sha256 of checkpoints, states and results and crc32c of chunks are constants: no byte is looked at, neither
when it is written nor when it is read, so the difference is the most that verification can cost. Each sweep trains and
analyses two runs with all usual analyses, inline, in a fresh folder; the two kinds alternate.
`python -m tests.benchmarks.verification`.
"""

import contextlib
import statistics
import sys
import tempfile
import time
import types
from collections.abc import Iterator, Sequence
from pathlib import Path
from unittest.mock import patch

sys.path.insert(0, str(Path(__file__).parents[1]))  # helpers of tests import one another by this

from helpers.pipelines import sweep
from helpers.prefect_here import prefect_here
from tests.benchmarks.measured import table

ROUNDS = 5
HEADINGS = ("smoke sweep", "without digests", "with digests", "ratio", "how")


class Constant:
    """A digest of nothing."""

    def __init__(self, _data: object = b"") -> None: ...

    def update(self, _data: object) -> None:
        """Leave the bytes alone."""

    def hexdigest(self) -> str:
        """The same for all."""
        return "0" * 64


@contextlib.contextmanager
def unverified() -> Iterator[None]:
    """Compute no digest of checkpoints, states, results and chunks within the block."""
    from zarr.codecs import crc32c_

    from specdyn.storage import checkpoints, results, scratch

    nothing = types.SimpleNamespace(sha256=Constant)
    with contextlib.ExitStack() as stack:
        for module in (checkpoints, results, scratch):
            stack.enter_context(patch.object(module, "hashlib", nothing))
        stack.enter_context(patch.object(crc32c_, "google_crc32c", types.SimpleNamespace(value=lambda _: 0)))
        yield


def once() -> tuple[float, float]:
    """Wall and CPU seconds of a sweep."""
    with tempfile.TemporaryDirectory() as folder:
        since, used = time.perf_counter(), time.process_time()
        assert sweep(folder, executor="inline").work.trainings == 2
        return time.perf_counter() - since, time.process_time() - used


def rows() -> list[tuple[str, ...]]:
    """Seconds of both kinds, medians of several rounds."""
    from prefect.settings import PREFECT_LOGGING_LEVEL, temporary_settings

    plain, checked = list[tuple[float, float]](), list[tuple[float, float]]()
    with prefect_here(), temporary_settings({PREFECT_LOGGING_LEVEL: "ERROR"}):
        once()
        for _ in range(ROUNDS):
            with unverified():
                plain.append(once())
            checked.append(once())
    found = []
    for i, kind in enumerate(("wall", "CPU")):
        without, usual = (statistics.median(one[i] for one in made) for made in (plain, checked))
        ratios = sorted(mine[i] / other[i] for mine, other in zip(checked, plain, strict=True))
        how = f"medians of {ROUNDS}, alternating; ratios {ratios[0]:.2f} to {ratios[-1]:.2f}"
        found.append((f"smoke sweep, {kind}", f"{without:.2f} s", f"{usual:.2f} s", f"{usual / without:.2f}x", how))
    return found


def main(_arguments: Sequence[str]) -> None:
    """Print the table."""
    table("Digests", HEADINGS, rows())


if __name__ == "__main__":
    main(sys.argv[1:])
