"""Computes singular values of a network's layers during training, for recordings without checkpoints."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import numpy as np

from specdyn.models.nets.matrices import Matrix, inventory
from specdyn.models.spec.checks import require
from specdyn.storage.places import Recording
from specdyn.storage.probe import existing_store
from specdyn.storage.recordings import read_step, recorded_steps
from specdyn.storage.schema import Variable

if TYPE_CHECKING:
    import xarray as xr
    from torch import Tensor, nn

SHOWN = {
    "spectrum": ("singular_value",),
    "effective_rank": ("effective_rank", "effective_rank_count", "effective_rank_ratio"),
    "norms": ("spectral_norm", "frobenius_norm"),
}
"""Variables that are stored for a layer or derived from it, and the analyses that declare them."""


def require_pattern(field: str, pattern: str) -> None:
    """ValueError unless the text is a regular expression."""
    try:
        re.compile(pattern)
    except re.error as error:
        raise ValueError(f"{field}={pattern!r} is not a regular expression: {error}") from None


def matrices(net: nn.Module, pattern: str = "") -> list[tuple[Matrix, Tensor]]:
    """The layers whose name matches a regular expression, each with its parameter."""
    from specdyn.tasks.foreign.weights.wrappers import INSIDE

    parameters = dict(net.named_parameters())
    return [
        (layer, parameters[layer.parameter])
        for entry in inventory(net)
        for layer in entry.matrices
        if re.search(pattern, INSIDE.sub("", layer.name))
    ]


def singular_values(net: nn.Module, pattern: str = "", kept: bool = True) -> tuple[dict[str, Tensor], list[str]]:
    """The singular values (R,) of each layer, descending, in float32, computed on the network's device.

    One layer at a time; NaN if a layer is not finite, with the reason in the list. Sharded layers are gathered by all
    processes, and only analysed if `kept`.
    """
    from specdyn.tasks.foreign.weights.wrappers import INSIDE

    found: dict[str, Tensor] = {}
    wrong: list[str] = []
    for layer, parameter in matrices(net, pattern):
        name = INSIDE.sub("", layer.name)
        if (s := _values(layer, name, parameter, wrong, kept)) is not None:
            found[name] = s
    return found, wrong


def _values(layer: Matrix, name: str, parameter: Tensor, wrong: list[str], kept: bool) -> Tensor | None:
    """The singular values of a layer, if kept; frees the gathered tensor."""
    import torch

    from specdyn.tasks.recording.copies import whole
    from specdyn.tasks.spectra.decomposition import decompose

    w = whole(parameter)
    if not kept:
        return None
    w_MN = layer.of({layer.parameter: w})
    try:
        return decompose(w_MN, f"layer {name}", vectors=False).s.cpu()
    except ValueError as error:
        wrong.append(str(error))
        return torch.full((min(w_MN.shape),), float("nan"))


def open_spectra(store: str, name: str) -> xr.Dataset:
    """The singular values in a recording with `keep="spectra"`, even during training, and derived variables.

    Dimensions (layer, step, rank), NaN beyond a layer's rank. ValueError if there are none.
    """
    place = existing_store(store).recording(name)
    require(bool(recorded_steps(place.spectra)), "name", name, "a recording that keeps spectra")
    return gathered(place)


def gathered(place: Recording) -> xr.Dataset:
    """The singular values of a recording; DamagedCheckpoint if an object is damaged."""
    import xarray as xr

    steps = recorded_steps(place.spectra)
    found = [{name: s.numpy() for name, s in read_step(place.spectrum(step)).items()} for step in steps]
    names = list(dict.fromkeys(name for one in found for name in one))
    ranks = max((len(s) for one in found for s in one.values()), default=0)
    variables = _declared()
    values = {
        name: np.full((len(names), len(steps), *([ranks] if "rank" in variable.dims else [])), np.nan, np.float32)
        for name, variable in variables.items()
    }
    for at, one in enumerate(found):
        for name, s in one.items():
            for variable, value in _numbers(s).items():
                ranks_of = (slice(len(s)),) if "rank" in variables[variable].dims else ()
                values[variable][(names.index(name), at, *ranks_of)] = value
    return xr.Dataset(
        {name: (variables[name].dims, values[name], variables[name].attributes) for name in variables},
        coords={"layer": names, "step": steps, "rank": np.arange(1, ranks + 1)},
        attrs={"title": f"Singular values recorded as {place.name}"},
    )


def _declared() -> dict[str, Variable]:
    from specdyn.tasks.spectra.analysis import get_analysis

    return {name: get_analysis(analysis).variables[name] for analysis, names in SHOWN.items() for name in names}


def _numbers(s_R: np.ndarray) -> dict[str, np.ndarray | float]:
    """Variables derived from a layer's singular values."""
    from specdyn.tasks.analyses.effective_rank import effective_ranks

    ranks = effective_ranks(s_R) if np.isfinite(s_R).all() else (np.nan, np.nan, np.nan)
    exact = s_R.astype(np.float64)
    return {
        "singular_value": s_R,
        **dict(zip(SHOWN["effective_rank"], ranks, strict=True)),
        "spectral_norm": float(exact[0]),
        "frobenius_norm": float(np.sqrt((exact**2).sum())),
    }
