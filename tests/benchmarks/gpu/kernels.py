"""Analysis of one checkpoint of each network: the published pattern on the device, plain SVDs, and ours."""

import functools
import math
from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from specdyn.models.nets.matrices import Matrix
from specdyn.tasks.spectra.decomposition import Factors, decompose_alike
from specdyn.tasks.spectra.network_layout import NetworkLayout
from specdyn.tasks.spectra.one_pass import decompose_into
from tests.benchmarks import spectra
from tests.benchmarks.gpu.machine import Budget, Keep, Table, forget_peak, no_need, peak, reason, seconds
from tests.reference.networks import NETWORKS, build, checkpoint

HEADINGS = (
    *("network", "published, s", "one pass, s", "ratio", "decompositions", "vectors, s", "values, s", "plain SVD, s"),
    *("worst departure", "of plain SVD", "matrices compared", "peak memory"),
)
COMPARED_ENTRIES = 2**22
"""Entries of the largest matrix that is compared with float64 LAPACK on the CPU."""
COMPARED = 8
LARGE = 100_000_000
"""Weights from which a network is measured once instead of twice."""


def measure(device: torch.device, short: bool, budget: Budget, keep: Keep = no_need) -> Table:
    """Seconds of each way for each network, and how far its singular values depart from float64."""
    table = Table(title="Analysis of one checkpoint", headings=HEADINGS)
    names = list(NETWORKS)
    for i, name in enumerate(names):
        own = budget.share(len(names) - i)
        if own.left < 1:
            table.left_out.append(f"{name}, for lack of time")
            continue
        try:
            table.rows.append(_row(name, device, short, own, table.left_out))
        except (RuntimeError, ValueError) as error:
            table.left_out.append(f"{name}, which failed: {reason(error)}")
        keep(table)
    return table


def _row(name: str, device: torch.device, short: bool, budget: Budget, left_out: list[str]) -> tuple[str, ...]:
    net, body = build(name, miniature=short)
    weights, final = checkpoint(net, 0.1, 1), checkpoint(net, 0.1, 2)
    here, there = ({key: w.to(device) for key, w in of.items()} for of in (weights, final))
    rounds = 1 if sum(w.numel() for w in weights.values()) > LARGE else 2
    spectra.FINAL.clear()
    list(decompose_into(spectra.FINAL, final, body, name))  # also warms up
    forget_peak(device)
    ours, count = seconds(lambda: spectra.one_pass(weights, final, body, net), device, rounds)
    vectors, factors = seconds(functools.partial(_decomposed, body, here, True), device, rounds)
    values, _ = seconds(functools.partial(_decomposed, body, here, False), device, rounds)
    most = peak(device)
    slow: dict[str, Callable[[], int]] = {
        "the plain SVD": lambda: len([torch.linalg.svd(m.of(here), full_matrices=False) for m in body.matrices]),
        "the published pattern": lambda: spectra.published(here, there, body, net)[0],
    }
    taken: dict[str, tuple[float, int]] = {}
    expected = 270 / 110  # as many more decompositions
    for way, work in slow.items():
        if budget.left > expected * taken.get("the plain SVD", (0.0, 0))[0]:
            taken[way] = seconds(work, device)
        else:
            left_out.append(f"{way} of {name}, for lack of time")
    plain, published = (taken.get(way, (math.nan, 0)) for way in slow)
    worst, worst_plain, compared = departures(body, weights, here, factors)
    return (
        name,
        *(_seconds(published[0]), _seconds(ours), _ratio(published[0] / ours), f"{published[1] or '-'} -> {count}"),
        *(_seconds(vectors), _seconds(values), _seconds(plain[0])),
        *(f"{worst:.1e} s_1", f"{worst_plain:.1e} s_1", f"{compared} of {len(body.layers)}", most),
    )


def _decomposed(body: NetworkLayout, on_device: Mapping[str, Tensor], vectors: bool) -> dict[str, Factors]:
    matrices = body.matrices if vectors else body.layers
    return decompose_alike({matrix.name: matrix.of(on_device) for matrix in matrices}, "benchmark", vectors)


def departures(
    body: NetworkLayout, weights: Mapping[str, Tensor], on_device: Mapping[str, Tensor], factors: Mapping[str, Factors]
) -> tuple[float, float, int]:
    """Largest departure from float64 LAPACK as a share of s_1, of ours and of the device's SVD; matrices compared.

    Of matrices of equal shape the first is compared, and none that would take the CPU long.
    """
    chosen: dict[tuple[int, ...], Matrix] = {}
    for layer in body.layers:
        w = layer.of(weights)
        if w.numel() <= COMPARED_ENTRIES and len(chosen) < COMPARED:
            chosen.setdefault(tuple(w.shape), layer)
    ours = plain = 0.0
    for layer in chosen.values():
        exact = torch.linalg.svdvals(layer.of(weights).double())
        theirs = torch.linalg.svd(layer.of(on_device), full_matrices=False)[1].cpu()
        ours, plain = (max(now, _apart(s, exact)) for now, s in ((ours, factors[layer.name].s), (plain, theirs)))
    return ours, plain, len(chosen)


def _apart(s: Tensor, exact: Tensor) -> float:
    largest = (s.double() - exact).abs().amax(-1) / exact[..., 0]
    return float(largest.max())


def _seconds(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.3f}"


def _ratio(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.1f}x"
