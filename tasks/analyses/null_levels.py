"""The chance level of every scalar metric, to be shown next to it (CLAIMS 2.7).

Once per run and layer: two decompositions (values only), of a Gaussian matrix of its shape and of its last weights
with shuffled entries; one QR of each side, and one assignment. Seeds are derived from the layer's name.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from specdyn.storage.schema import Variable
from specdyn.tasks.analyses import marchenko_pastur, norms, power_law, shape
from specdyn.tasks.spectra.analysis import Analysis, RunView, Values
from specdyn.tasks.spectra.labels import NULLS, SIDES, SUBSPACES
from specdyn.tasks.spectra.spectral import FRACTIONS, condition_number, effective_rank

if TYPE_CHECKING:
    from torch import Tensor

    from specdyn.models.nets.matrices import LayerPair

LEFT_OUT = {"mp_lower_edge", "mp_upper_edge", "power_law_start", "power_law_status"}
"""Variables that a null matrix shares with the layer, or that are not metrics."""


def levels(w_MN: Tensor) -> dict[str, float | np.ndarray]:
    """Every scalar metric of an unstructured matrix, computed by the same functions as for layers."""
    from specdyn.tasks.spectra import nulls
    from specdyn.tasks.spectra.decomposition import singular_values

    s_R, (rows, columns) = singular_values(w_MN).numpy(), w_MN.shape
    values = {
        "effective_rank": effective_rank(s_R),
        "spectral_norm": float(s_R[0]),
        "nuclear_norm": float(s_R.sum()),
        "condition_number": condition_number(s_R),
        **shape.shape(s_R),
        **marchenko_pastur.against_the_law(s_R, rows, columns, marchenko_pastur.entry_variance(w_MN)),
        **power_law.heavy_tail(s_R),
        "kept_energy": nulls.kept_energy(w_MN),
    }
    return {f"null_{name}": value for name, value in values.items() if name not in LEFT_OUT}


def of_layer(w_MN: Tensor, name: str) -> dict[str, np.ndarray]:
    """All levels of a layer; the levels in LEVELS have a first axis of nulls."""
    from specdyn.tasks.spectra import nulls

    measured = [levels(null) for null in nulls.without_structure(w_MN, name).values()]
    rows, columns = w_MN.shape
    subspaces = np.array([k for k in SUBSPACES if k <= min(rows, columns)])
    return {
        **{key: np.stack([np.asarray(of[key]) for of in measured]) for key in measured[0]},
        "agreement_null": np.asarray(nulls.agreement(rows, columns)),
        "agreement_best_match_null": np.asarray(nulls.best_match(rows, columns, name)),
        "subspace_overlap_null": np.stack([subspaces / rows, subspaces / columns]),
    }


def of_pair(pair: LayerPair, weights: Mapping[str, Tensor]) -> dict[str, float]:
    """Both levels of a pair, from the shared width of its layers."""
    from specdyn.tasks.spectra import nulls

    rows, columns = pair.writer.shape(tuple(weights[pair.writer.parameter].shape))
    width = (rows if pair.writer_vectors == "left" else columns) // pair.gates
    return {
        "alignment_null": nulls.alignment(width, pair.parts),
        "weighted_alignment_null": nulls.weighted_alignment(width),
    }


def compute(view: RunView) -> Values:
    """The levels of all layers and pairs; NaN beyond a layer's rank."""
    weights, absent = view.final.weights, view.absent
    layers = {i: layer for i, layer in enumerate(view.layers) if layer.parameter not in absent}
    pairs = {
        i: pair for i, pair in enumerate(view.pairs) if not {pair.writer.parameter, pair.reader.parameter} & absent
    }
    of_layers = {i: of_layer(layer.of(weights).float(), layer.name) for i, layer in layers.items()}
    of_pairs = {i: of_pair(pair, weights) for i, pair in pairs.items()}
    return {
        **_stacked(of_layers, len(view.layers)),
        **_stacked({i: {n: np.asarray(v) for n, v in of.items()} for i, of in of_pairs.items()}, len(view.pairs)),
    }


def _stacked(found: Mapping[int, Mapping[str, np.ndarray]], count: int) -> dict[str, np.ndarray]:
    """Stack the arrays of each name along an axis of length `count`; NaN for missing ones."""
    names = next(iter(found.values()), {})
    empty = {name: np.full(array.shape, np.nan) for name, array in names.items()}
    return {name: _stack([found.get(i, empty)[name] for i in range(count)]) for name in names}


def _stack(arrays: list[np.ndarray]) -> np.ndarray:
    """Stack arrays of different lengths, padded with NaN."""
    stacked = np.full((len(arrays), *np.max([array.shape for array in arrays], axis=0).astype(int)), np.nan)
    for i, array in enumerate(arrays):
        corner: tuple[int | slice, ...] = (i, *(slice(size) for size in array.shape))
        stacked[corner] = array
    return stacked


def _by_chance(variable: Variable) -> Variable:
    return replace(
        variable,
        dims=("layer", "null", *variable.dims[2:]),
        long_name=f"{variable.long_name}, by chance",
        about=f"of a matrix without structure: {variable.about}",
    )


LEVELS = (
    {
        "null_effective_rank": Variable(
            dims=("layer", "null"),
            long_name="effective rank / rank, by chance",
            about="of a matrix without structure: exp(-sum p log p) / R with p = s / sum s; CLAIMS 2.7",
        )
    }
    | {
        f"null_{name}": _by_chance(norms.ANALYSIS.variables[name])
        for name in ("spectral_norm", "nuclear_norm", "condition_number")
    }
    | {
        f"null_{name}": _by_chance(variable)
        for module in (shape, marchenko_pastur, power_law)
        for name, variable in module.ANALYSIS.variables.items()
        if name not in LEFT_OUT
    }
)

ANALYSIS = Analysis(
    name="null_levels",
    version=1,
    of="run",
    needs_vectors=False,
    variables={
        **LEVELS,
        "null_kept_energy": Variable(
            dims=("layer", "null"),
            long_name="energy of the largest 5 % of the entries, by chance",
            about="sum of W^2 over the 5 % of largest magnitude / sum of W^2; .28 of a Gaussian; CLAIMS 2.7",
        ),
        "agreement_null": Variable(
            dims=("layer",),
            long_name="agreement at one rank, and its score, by chance",
            about="(2 / pi) / sqrt(M N); CLAIMS 2.7",
        ),
        "agreement_best_match_null": Variable(
            dims=("layer",),
            long_name="best-match agreement, by chance",
            about="mean over ranks, measured on two random frames of the layer's shape; CLAIMS 2.7",
        ),
        "subspace_overlap_null": Variable(
            dims=("layer", "side", "subspace"),
            long_name="overlap of the leading subspaces, by chance",
            about="k / M on the left, k / N on the right; CLAIMS 2.7",
        ),
        "alignment_null": Variable(
            dims=("pair",),
            long_name="alignment at one rank, and its score, by chance",
            about="sqrt(2 / (pi d)) for shared width d, d times their number for kernel positions or gates; CLAIMS 2.7",
        ),
        "weighted_alignment_null": Variable(
            dims=("pair",),
            long_name="alignment weighted by singular values, by chance",
            about="1 / sqrt d for shared width d",
        ),
    },
    compute=compute,
    labels={"null": NULLS, "fraction": FRACTIONS, "side": SIDES, "subspace": SUBSPACES},
)
