"""Analysis of one checkpoint of each network: every analysis decomposing again, one pass, and WeightWatcher.

Each way runs in a process of its own, with one thread, so that its peak memory can be told.
"""

import contextlib
import importlib
import io
import json
import math
import os
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Mapping
from importlib import util
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import specdyn.tasks.spectra.one_pass
from specdyn.models.nets.matrices import Matrix
from specdyn.tasks.analyses.alignment import alignment, along_shared
from specdyn.tasks.evaluation.environment import use_threads
from specdyn.tasks.spectra.agreement import agreement
from specdyn.tasks.spectra.analysis import Decomposed, PairView
from specdyn.tasks.spectra.decomposition import Factors, decompose
from specdyn.tasks.spectra.network_layout import NetworkLayout
from specdyn.tasks.spectra.one_pass import decompose_into
from specdyn.tasks.spectra.truncation import of_halves
from tests.reference.networks import NETWORKS, build, checkpoint

Weights = Mapping[str, Tensor]
STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")
WAYS = ("naive", "plain", "ours", "values", "weightwatcher")


def published(
    weights: Weights, final: Weights, body: NetworkLayout, net: nn.Module
) -> tuple[int, list[dict[str, Tensor]]]:
    """Agreement, alignment and pruning in the published pattern: each with SVDs of its own, of matrices as they lie."""
    calls = 0

    def svd(matrix: Matrix, of: Weights = weights) -> Factors:
        nonlocal calls
        calls += 1
        u, s, vh = (part.cpu() for part in torch.linalg.svd(matrix.of(of), full_matrices=False))
        return Factors(u, s, vh.mT, 1)

    for layer in body.layers:
        agreement(svd(layer), svd(layer, final))
    for pair in (
        pair for pair in body.pairs if "by head" not in pair.name and pair.reader.name != "linear.weight[reverse]"
    ):
        both = {matrix.name: svd(matrix) for matrix in (pair.writer, pair.reader)}
        read, written = along_shared(PairView(pair=pair, now=Decomposed(step=0, weights=weights, factors=both)))
        (read.mT @ written).abs()  # whole, of which the diagonal is shown
    pruned = []
    for first in (True, False):
        pruned.append(dict(weights))
        for layer in body.layers[:-1]:
            f = svd(layer)
            k = math.ceil(len(f.s) / 2)
            kept = slice(0, k) if first else slice(k, None)
            w_MN = (f.left[:, kept] * f.s[kept]) @ f.right[:, kept].mT
            pruned[-1][layer.parameter] = w_MN if layer.transposed else w_MN.view_as(weights[layer.parameter])
    return calls - len(body.layers), pruned  # those of the final checkpoint are made once a run


def one_pass(weights: Weights, final: Weights, body: NetworkLayout, net: nn.Module) -> int:
    """The same and the pairs by head from one decomposition a matrix; the final factors are given."""
    factors: dict[str, Factors] = {}
    for matrix in decompose_into(factors, weights, body, "benchmark"):
        if matrix in body.layers:
            agreement(factors[matrix.name], FINAL[matrix.name])
    now = Decomposed(step=0, weights=weights, factors=factors)
    for pair in body.pairs:
        alignment(PairView(pair=pair, now=now))
    of_halves(len, weights, body.layers, factors)
    return len(factors)


def values(weights: Weights, final: Weights, body: NetworkLayout, net: nn.Module) -> int:
    """Singular values alone, of the layers that WeightWatcher accepts where it is installed, else of all."""
    for layer in ACCEPTED or body.layers:
        decompose(layer.of(weights), vectors=False)
    return len(ACCEPTED or body.layers)


def weightwatcher(weights: Weights, final: Weights, body: NetworkLayout, net: nn.Module) -> int:
    """WeightWatcher's own analysis of the layers that it accepts: their spectra and power-law fits."""
    return len(watched(net).analyze())


def watched(net: nn.Module) -> Any:
    """WeightWatcher on the network."""
    return importlib.import_module("weightwatcher").WeightWatcher(model=net)


def accepted(body: NetworkLayout, net: nn.Module) -> list[Matrix]:
    """The layers that WeightWatcher's analysis gives a row."""
    names = {f"{name}.weight" for name in watched(net).analyze()["longname"]}
    return [layer for layer in body.layers if layer.parameter in names]


ACCEPTED: list[Matrix] = []
FINAL: dict[str, Factors] = {}


def plain_svd(w: Tensor, what: str = "", vectors: bool = True) -> Factors:
    """A float32 SVD of the tall orientation."""
    tall = w.shape[-2] >= w.shape[-1]
    u, s, vh = torch.linalg.svd(w if tall else w.mT, full_matrices=False)
    return Factors(u, s, vh.mT, 1) if tall else Factors(vh.mT, s, u, 1)


def measure(name: str, way: str) -> dict[str, float]:
    """CPU seconds and decompositions of one checkpoint, and by how much the process's memory peaked above its start."""
    use_threads(1)
    warnings.simplefilter("ignore")
    net, body = build(name)
    weights, final = checkpoint(net, 0.1, 1), checkpoint(net, 0.1, 2)
    works: dict[str, Callable[[Weights, Weights, NetworkLayout, nn.Module], int]] = {
        "naive": lambda *given: published(*given)[0],
        "plain": one_pass,
        "ours": one_pass,
        "values": values,
        "weightwatcher": weightwatcher,
    }
    if way in ("plain", "ours"):
        list(decompose_into(FINAL, final, body, "benchmark"))
    with contextlib.redirect_stdout(io.StringIO()):
        if way in ("values", "weightwatcher") and util.find_spec("weightwatcher"):
            ACCEPTED.extend(accepted(body, net))  # also imports it, and warms up both
    if way == "plain":
        specdyn.tasks.spectra.one_pass.decompose = plain_svd
    torch.linalg.svd(torch.randn(8, 8))
    CLEAR.write_text("5")  # lets the high-water mark start again
    before = memory("VmRSS")
    since = time.process_time()
    with contextlib.redirect_stdout(io.StringIO()):
        count = works[way](weights, final, body, net)
    seconds = time.process_time() - since
    peak = memory("VmHWM") - before
    size = sum(w.numel() * w.element_size() for w in weights.values())
    return {"seconds": seconds, "decompositions": count, "peak": peak / size}


def memory(field: str) -> int:
    """Bytes of this process's memory, now (VmRSS) or at its highest (VmHWM)."""
    line = next(line for line in STATUS.read_text().splitlines() if line.startswith(field))
    return 1024 * int(line.split()[1])


def in_process(name: str, way: str) -> dict[str, float] | None:
    """The measurement in a process of its own; None where it could not be made."""
    # numpy's threads, which WeightWatcher computes with, are set by these alone; idle ones would count as CPU time.
    threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    command = [sys.executable, "-m", "tests.benchmarks.spectra", name, way]
    done = subprocess.run(command, env={**os.environ, **threads}, capture_output=True, text=True, check=False)
    return json.loads(done.stdout.splitlines()[-1]) if done.returncode == 0 else None


def rows() -> list[tuple[str, str, str, str, str]]:
    """Each network by each way, against the published pattern and against WeightWatcher."""
    found = []
    ways = WAYS if util.find_spec("weightwatcher") else WAYS[:-1]
    for name in NETWORKS:
        measured = {way: in_process(name, way) for way in ways}
        naive, ours, alone = (measured[way] for way in ("naive", "ours", "values"))
        assert naive and ours and alone
        for way, label in (("plain", "one pass, plain SVD"), ("ours", "one pass")):
            this = measured[way]
            assert this
            found.append((f"{name}: {label}", *_cells(naive, this), _how(naive, this)))
        if watcher := measured.get("weightwatcher"):
            found.append(
                (f"{name}: spectra alone against WeightWatcher", *_cells(watcher, alone), _how(watcher, alone))
            )
        else:
            seconds = f"{alone['seconds']:.3f}"
            found.append((f"{name}: spectra alone", "-", seconds, "-", "WeightWatcher is not installed or failed"))
    return found


def _cells(plain: Mapping[str, float], ours: Mapping[str, float]) -> tuple[str, str, str]:
    ratio = plain["seconds"] / ours["seconds"]
    return f"{plain['seconds']:.3f}", f"{ours['seconds']:.3f}", f"{ratio:.1f}x"


def _how(plain: Mapping[str, float], ours: Mapping[str, float]) -> str:
    counts = f"{plain['decompositions']:.0f} -> {ours['decompositions']:.0f}"
    peaks = f"{plain['peak']:.1f} -> {ours['peak']:.1f}"
    return (
        f"CPU s a checkpoint, 1 thread; decompositions, or layers accepted, {counts}; peak memory {peaks} checkpoints"
    )


if __name__ == "__main__":
    print(json.dumps(measure(*sys.argv[1:])))
