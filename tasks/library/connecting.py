"""Measures lines between trained networks that the caller can build: recordings, checkpoints, models."""

import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from specdyn.models.spec.checks import require
from specdyn.tasks.library.progress import counted

if TYPE_CHECKING:
    import xarray as xr
    from torch import Tensor, nn

    from specdyn.models.nets.matrices import Matrix
    from specdyn.storage.schema import Variable
    from specdyn.tasks.library.analysed import Given

Numbers = Mapping[str, float]


def connect(
    runs: "Mapping[str, Given] | Sequence[Given]",
    network: "Callable[[], nn.Module]",
    evaluate: "Callable[[nn.Module], Numbers]",
    *,
    points: int = 11,
    inputs: "Iterable[Tensor] | None" = None,
    step: int | None = None,
    progress: bool = True,
) -> "xr.DataTree":
    """Measure the straight line between each pair of trained networks (METHOD 4.8), in this process.

    `runs` are two or more recordings, checkpoints or models, as for `analyse`, in a list or by name; for a series, the
    checkpoint at `step`, by default the last. `network` builds the network, whose weights are replaced. `evaluate` gets
    it in evaluation mode, without gradients, and returns numbers by name, with prefix `train_` or `val_` for the split;
    it must use the same examples each time. `inputs` are batches of training inputs, to re-estimate the statistics of
    BatchNorm at every point; () keeps interpolated statistics.

    Returns a cube like that of `specdyn connect`, along `pair` and `alpha` (`points` positions from the first run to
    the second): each number with its `barrier_` and `instability_`, `effective_rank`, `singular_value`, and agreement,
    `distance` and `cosine` of the ends; float32, NaN beyond a layer's rank. ValueError if weights do not fit the
    network, or a network with BatchNorm gets no `inputs`. Stores nothing.
    """
    import torch

    from specdyn.storage.cube_in_memory import cube_in_memory
    from specdyn.storage.rows import PAIRS, Row
    from specdyn.tasks.connect.rows import BARRIERS
    from specdyn.tasks.library.accessor import register

    register()
    named = dict(runs) if isinstance(runs, Mapping) else {_name(one, i): one for i, one in enumerate(runs)}
    require(len(named) > 1, "runs", list(named), "two or more, by different names")
    require(points >= 3, "points", points, "3 or more")
    meter = _Meter(network(), evaluate, None if inputs is None else list(inputs))
    ends = {name: meter.weights_of(one, name, step) for name, one in named.items()}
    pairs = list(itertools.combinations(ends, 2))
    lines = []
    with counted("points", len(ends) + len(pairs) * (points - 2), progress) as advance, torch.no_grad():
        measured = {name: meter.point(weights, name) for name, weights in ends.items()}
        advance(len(ends))
        for a, b in pairs:
            lines.append(meter.line(ends[a], ends[b], measured[a], measured[b], points, f"{a} and {b}"))
            advance(points - 2)
    layout = meter.layout(lines[0], points)
    rows = [
        Row(
            key=f"{a} - {b}",
            status="done",
            layout_of=lambda: layout,
            coordinates={"kind": "across", "run_a": a, "run_b": b},
        )
        for a, b in pairs
    ]
    values = [{name: of.stored(line[name]) for name, of in layout.variables.items()} for line in lines]
    attributes = {"title": "Lines between " + ", ".join(ends), "experiment": type(meter.net).__name__}
    return cube_in_memory(rows, values, BARRIERS, attributes, kind=PAIRS)


@dataclass(frozen=True, slots=True)
class _Point:
    numbers: Numbers
    factors: Mapping[str, Any]


class _Meter:
    """Measures any weights of the network."""

    def __init__(
        self, net: "nn.Module", evaluate: "Callable[[nn.Module], Numbers]", inputs: "Sequence[Tensor] | None"
    ) -> None:
        from specdyn.tasks.connect.factors import Decomposer
        from specdyn.tasks.connect.meter import has_statistics
        from specdyn.tasks.foreign.network.layout import Look
        from specdyn.tasks.library.model import look_of_module, series_of_module

        self.net, self._evaluate, self._inputs = net.eval(), evaluate, inputs or []
        require(
            inputs is not None or not has_statistics(net),
            "inputs",
            None,
            "batches of training inputs to estimate the statistics of BatchNorm by, or () to keep them blended",
        )
        found = series_of_module(net, type(net).__name__).layout(look_of_module(net, Look()))
        self.layers: tuple[Matrix, ...] = tuple(found.layers)
        self._ranks, self._decomposer = found.ranks, Decomposer(self.layers)

    def weights_of(self, one: Any, name: str, step: int | None) -> "dict[str, Tensor]":
        """A run's tensors under the network's names; tied weights may be stored under any of their names."""
        given, state = _tensors(one, step), self.net.state_dict(keep_vars=True)
        by_place: dict[int, Tensor] = {id(state[key]): value for key, value in given.items() if key in state}
        found = {key: by_place[id(value)] for key, value in state.items() if id(value) in by_place}
        missing, others = sorted(state.keys() - found.keys()), sorted(given.keys() - state.keys())
        fits = not missing and not others
        require(fits, f"weights of {name}", f"missing {missing[:3]}, unknown {others[:3]}", "those of the network")
        for key, value in found.items():
            shape = tuple(state[key].shape)
            require(tuple(value.shape) == shape, f"{key!r} of {name}", tuple(value.shape), f"the shape {shape}")
        return found

    def point(self, weights: "Mapping[str, Tensor]", what: str) -> _Point:
        """Numbers and factors of some weights."""
        from specdyn.tasks.evaluation.evaluator import estimate_batch_norm

        self.net.load_state_dict(dict(weights))
        if self._inputs:
            estimate_batch_norm(self.net, self._inputs)
        numbers = {name: float(value) for name, value in self._evaluate(self.net.eval()).items()}
        return _Point(numbers, self._decomposer.factors(weights, what))

    def line(
        self, a: "dict[str, Tensor]", b: "dict[str, Tensor]", first: _Point, last: _Point, points: int, what: str
    ) -> dict[str, np.ndarray]:
        """Every variable of a line."""
        from specdyn.tasks.analyses.effective_rank import effective_ranks
        from specdyn.tasks.connect.between import agreements
        from specdyn.tasks.connect.meter import padded
        from specdyn.tasks.connect.paths import blend, distance

        inner = [self.point(blend(a, b, alpha), what) for alpha in np.linspace(0, 1, points)[1:-1].tolist()]
        every = [first, *inner, last]
        spectra = [[one.factors[layer.name].s.numpy() for layer in self.layers] for one in every]
        apart = distance(a, b, [layer.parameter for layer in self.layers])
        return {
            **_by_split([one.numbers for one in every]),
            "effective_rank": np.array([[effective_ranks(s)[0] for s in of] for of in spectra]),
            "singular_value": np.stack([padded(of) for of in spectra]),
            **agreements(self.layers, first.factors, last.factors),
            "distance": np.array(apart.l2),
            "cosine": np.array(apart.cosine),
        }

    def layout(self, line: Mapping[str, np.ndarray], points: int) -> Any:
        """Labels and variables of every line."""
        from specdyn.storage.results import RunLayout
        from specdyn.tasks.connect.declared import labels_of
        from specdyn.tasks.connect.variables import LINE

        declared = {name: of for analysis in LINE for name, of in analysis.variables.items()}
        labels = {dim: list(of) for dim, of in labels_of(LINE).items()}
        variables = {name: declared.get(name) or _metric(name, values) for name, values in line.items()}
        return RunLayout(
            labels={
                **labels,
                "alpha": np.linspace(0, 1, points).tolist(),
                "layer": [layer.name for layer in self.layers],
                "rank": list(range(1, self._ranks + 1)),
            },
            variables=variables,
            attributes={},
            extras={},
        )


def _metric(name: str, values: np.ndarray) -> "Variable":
    from specdyn.storage.schema import Variable

    return Variable(dims=("alpha", "split")[: values.ndim], long_name=name.replace("_", " "))


def _by_split(points: Sequence[Numbers]) -> dict[str, np.ndarray]:
    """Numbers by name as curves (alpha,), or (alpha, split) for names with a split; NaN in a missing split."""
    from specdyn.storage.schema import SPLITS
    from specdyn.tasks.foreign.metrics import split_of

    names = list(points[0])
    for one in points:
        require(list(one) == names, "names that evaluate returns", list(one), f"{names}, as at the first point")
    with_split = {base for base, split in map(split_of, names) if split}
    found: dict[str, np.ndarray] = {}
    for name in names:
        base, split = split_of(name)
        curve = np.array([one[name] for one in points])
        if base not in with_split:
            found[base] = curve
        else:
            whole = found.setdefault(base, np.full((len(points), len(SPLITS)), np.nan))
            whole[:, SPLITS.index(split or SPLITS[0])] = curve
    return found


def _name(one: Any, place: int) -> str:
    import os

    return os.fspath(one).rstrip("/").rsplit("/", 1)[-1] if isinstance(one, str | os.PathLike) else f"model {place + 1}"


def _tensors(one: Any, step: int | None) -> "dict[str, Tensor]":
    """The tensors of a model, a state dict, or a checkpoint at a URL, under their own names."""
    import os

    from torch import nn

    from specdyn.storage.foreign.find import find_checkpoints

    if isinstance(one, nn.Module):
        one = one.state_dict()
    if not isinstance(one, str | os.PathLike):
        return {name: tensor.detach().cpu() for name, tensor in one.items()}
    found = find_checkpoints(os.fspath(one))
    by_step = {checkpoint.step: checkpoint for checkpoint in found.checkpoints}
    require(step is None or step in by_step, "step", step, f"one of {', '.join(map(str, by_step))} of {found.url}")
    weights = by_step[max(by_step) if step is None else step].weights()
    return {name: weights[name] for name in weights}
