"""`make test-numerics`: the tests of numbers again, as other processors and other numbers of threads compute them.

MKL and torch choose their kernels by the processor; these variables have them choose others. What a processor lacks is
left out: torch would crash on it. Other makers' processors may have MKL ignore its variable.
"""

import os
import platform
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import torch

TESTS = Path(__file__).parent
NUMERIC = (
    "tasks/analyses/test_agreement_references.py",
    "tasks/spectra/test_decomposition.py",
    "tasks/analyses/test_golden.py",
    "tasks/spectra/test_truncation.py",
    "tasks/analyses/test_marchenko_pastur.py",
    "tasks/analyses/test_null_levels.py",
    "tasks/analyses/test_pairs.py",
    "tasks/analyses/test_power_law.py",
    "tasks/analyses/test_spectra.py",
    "tasks/analyses/test_trajectory.py",
    "tasks/analyses/test_updates.py",
    "tasks/figures/test_metrics_table.py",
    "tasks/training/test_optimizers.py",
    "tasks/training/test_perturbations.py",
    "tasks/spectra/test_range.py",
    "models/nets/test_convnets_unet_bilstm.py",
    "models/datasets/decoders/test_librispeech.py",
    "models/datasets/decoders/test_mel.py",
    "models/experiments/test_losses.py",
    "models/nets/test_network_formulas.py",
    "models/nets/test_transformer.py",
    "properties/test_decomposition_properties.py",
    "properties/test_metric_properties.py",
)
"""Tests that compare results of floating-point arithmetic, and need neither a server nor a sweep."""


def ways() -> list[dict[str, str]]:
    """Environments whose kernels differ; each has one thread or four, which do not spin where they have no core."""
    plain = {"ATEN_CPU_CAPABILITY": "default", "TEST_THREADS": "4", "OMP_WAIT_POLICY": "PASSIVE"}
    if platform.machine().lower() not in ("x86_64", "amd64"):
        return [plain]
    found = [{**plain, "MKL_ENABLE_INSTRUCTIONS": "SSE4_2"}]
    capability = torch.backends.cpu.get_cpu_capability()
    if capability in ("AVX2", "AVX512"):
        found.append({"ATEN_CPU_CAPABILITY": "avx2", "TEST_THREADS": "1", "MKL_ENABLE_INSTRUCTIONS": "AVX2"})
    if capability == "AVX512":
        found.append({"ATEN_CPU_CAPABILITY": "avx512", "TEST_THREADS": "1", "MKL_ENABLE_INSTRUCTIONS": "AVX512"})
    return found


def files() -> list[str]:
    """The files with numeric tests."""
    return sorted(str(path) for pattern in NUMERIC for path in TESTS.glob(pattern))


def main() -> int:
    """Run the tests each way; the first exit status that is not 0."""
    results = [_run(way) for way in ways()]
    return next((status for status in results if status), 0)


def _run(way: Mapping[str, str]) -> int:
    told = " ".join(f"{name}={value}" for name, value in sorted(way.items()))
    print(f"numeric tests with {told}", flush=True)
    since = time.monotonic()
    command = [sys.executable, "-m", "pytest", "-q", "-n", "2", "--dist", "worksteal", *files()]
    status = subprocess.run(command, env={**os.environ, **way}, check=False).returncode
    print(f"{'failed' if status else 'passed'} in {time.monotonic() - since:.0f} s with {told}", flush=True)
    return status


if __name__ == "__main__":
    sys.exit(main())
