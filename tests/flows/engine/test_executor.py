"""No Ray is started but by the one place that is to start it."""

import subprocess
import sys
from pathlib import Path

CALLS = """
import ray, specdyn.flows
for call in (ray.remote(lambda: 1).remote, ray.nodes, lambda: ray.put(1)):
    try:
        call()
    except ray.exceptions.RaySystemError as error:
        print(str(error)[:43])
print(ray.is_initialized())
"""


def test_no_call_starts_ray_by_itself() -> None:
    root = Path(__file__).resolve().parents[3]
    ended = subprocess.run([sys.executable, "-c", CALLS], cwd=root, capture_output=True, text=True, check=True)
    assert ended.stdout.splitlines() == ["System error: Ray has not been started yet."] * 3 + ["False"]
