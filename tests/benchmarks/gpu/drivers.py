"""Which way of decomposing is fastest for which shape, and how far its singular values are from float64 LAPACK."""

from collections.abc import Callable

import torch
from torch import Tensor

from tests.benchmarks.gpu.machine import Budget, Keep, Table, no_need, reason, seconds

HEADINGS = ("shape", "way", "ms", "worst departure", "fastest")
SHAPES = (
    *((1, 128, 128), (4, 128, 32), (1, 512, 128), (12, 512, 512), (13, 512, 512), (1, 4608, 512)),
    *((12, 768, 768), (12, 2304, 768), (144, 768, 64), (1, 50254, 768)),
)
"""Stacks as the paper's networks have them: matrices alike, rows, columns."""
SHORT = ((1, 16, 16), (4, 24, 8))
COMPARED_ENTRIES = 2**22
DRIVERS = ("gesvd", "gesvdj", "gesvda")


def measure(device: torch.device, short: bool, budget: Budget, keep: Keep = no_need) -> Table:
    """A row for each shape and way; matrices are Gaussian, drawn on the CPU."""
    table = Table(title="Ways to decompose", headings=HEADINGS)
    shapes = SHORT if short else SHAPES
    for i, shape in enumerate(shapes):
        own = budget.share(len(shapes) - i)
        name = " x ".join(map(str, shape))
        if own.left < 0.2:
            table.left_out.append(f"{name}, for lack of time")
            continue
        drawn = torch.randn(shape, generator=torch.Generator().manual_seed(0))
        exact = torch.linalg.svdvals(drawn[0].double()) if drawn[0].numel() <= COMPARED_ENTRIES else None
        measured: dict[str, tuple[float, str]] = {}
        for way, work in ways(drawn.to(device)).items():
            if own.left < 0.1:
                table.left_out.append(f"{way} of {name}, for lack of time")
                continue
            try:
                work()  # warms up
                taken, s = seconds(work, device, rounds=1 if short else 2)
            except RuntimeError as error:
                table.left_out.append(f"{way} of {name}, which failed: {reason(error)}")
                continue
            apart = "-" if exact is None else f"{float((s[0].cpu().double() - exact).abs().max() / exact[0]):.1e} s_1"
            measured[way] = (taken, apart)
        best = min((taken for taken, _ in measured.values()), default=0.0)
        for way, (taken, apart) in measured.items():
            table.rows.append((name, way, f"{1000 * taken:.2f}", apart, "yes" if taken == best else ""))
        keep(table)
    return table


def ways(w_BMN: Tensor) -> dict[str, Callable[[], Tensor]]:
    """Functions that decompose the stack with vectors and return its singular values, by name."""
    found: dict[str, Callable[[], Tensor]] = {
        "float32 SVD": lambda: torch.linalg.svd(w_BMN, full_matrices=False)[1],
        "float64 SVD": lambda: torch.linalg.svd(w_BMN.double(), full_matrices=False)[1],
        "Gram in float64": lambda: _by_gram(w_BMN),
        "Gram in float64, one by one": lambda: torch.cat([_by_gram(w_1MN) for w_1MN in w_BMN.split(1)]),
    }
    if w_BMN.device.type == "cuda":
        for driver in DRIVERS:
            found[f"float32 {driver}"] = lambda driver=driver: torch.linalg.svd(  # type: ignore[misc]
                w_BMN, full_matrices=False, driver=driver
            )[1]
    return found


def _by_gram(w_BMN: Tensor) -> Tensor:
    exact = w_BMN.double()
    energies, right = torch.linalg.eigh(exact.mT @ exact)
    s = energies.clamp_min(0).sqrt()
    exact @ (right / s.clamp_min(1e-30).unsqueeze(-2))  # the left vectors, which count
    return s.flip(-1)
