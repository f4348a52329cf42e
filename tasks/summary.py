"""The table of a sweep: how each run ended, when it generalised, and how its effective rank moved."""

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import xarray as xr

from models.run_spec import as_text
from tasks.configurations import configurations_of, runs_of, settings_of

COMPUTED_ON = "computed_on"
"""Coordinate along `run` that says what a run was trained on."""

GROKKED_BELOW = 0.05
"""Validation error below which a run counts as having generalised."""

COLLAPSED = 2
"""Value of the variable `collapse` where a layer's largest singular value is below 1e-6."""

HEADLINES: dict[str, tuple[str, float, str]] = {
    "err": ("error (%)", 100, ".1f"),
    "cer": ("CER (%)", 100, ".1f"),
    "loss": ("loss", 1, ".4g"),
}
"""The metrics that a row may show, the first that a sweep has: heading, factor and format."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One run of a sweep; NaN or None where the results do not say."""

    run_id: str
    weight_decay: float
    seed: int | None
    others: Mapping[str, str] = field(default_factory=dict)
    """Every other setting in which the runs of the sweep differ, with this run's value."""
    metric: str = "err"
    """Which of HEADLINES was measured."""
    train: float
    """The metric on the training examples, at the last step that has a value."""
    val: float
    grok_step: int | None
    """First step with a validation error below 0.05."""
    rank_start: float
    """Effective rank / rank, mean over the layers, at the first step."""
    rank_end: float
    collapsed: int = 0
    """Layers collapsed at the last step; each reads an effective rank of about 1."""

    @property
    def cells(self) -> tuple[str, ...]:
        """What stands under the headings."""
        never = "-" if math.isnan(self.val) and self.grok_step is None else "never"
        _, factor, form = HEADLINES[self.metric]
        return (
            "-" if math.isnan(self.weight_decay) else as_text(self.weight_decay),
            *self.others.values(),
            "-" if self.seed is None else str(self.seed),
            self.run_id,
            _number(factor * self.train, form),
            _number(factor * self.val, form),
            *([never if self.grok_step is None else str(self.grok_step)] if self.metric == "err" else []),
            _number(self.rank_start, ".3f"),
            _number(self.rank_end, ".3f") + (f" ({self.collapsed} collapsed)" if self.collapsed else ""),
        )


def headings(rows: Sequence[Row]) -> tuple[str, ...]:
    """The heading of every cell of rows of one sweep."""
    metric = rows[0].metric if rows else "err"
    name = HEADLINES[metric][0]
    return (
        "weight decay",
        *((name.replace("_", " ") for name in rows[0].others) if rows else ()),
        "seed",
        "run",
        f"train {name}",
        f"val {name}",
        *(["groks at step"] if metric == "err" else []),
        "eff. rank at start",
        "eff. rank at end",
    )


def _number(value: float, form: str) -> str:
    return "-" if math.isnan(value) else format(value, form)


def variable(tree: xr.DataTree, group: str, name: str) -> xr.DataArray | None:
    """A variable with a dimension `run`, in memory; None where there is none."""
    if group not in tree.children:
        return None
    data = tree.children[group].to_dataset()
    if name not in data.data_vars or "run" not in data[name].dims:
        return None
    return data[name].load()


def sweep_table(tree: xr.DataTree) -> list[Row]:
    """A row for each run of a cube, sorted by weight decay, by what else varies, and by seed."""
    metric, measured = _headline(tree)
    errors = measured if metric == "err" else {}
    ranks = _by_run(variable(tree, "layers", "effective_rank"), ("layer", "step"))
    collapse = _by_run(variable(tree, "layers", "collapse"), ("layer", "step"))
    runs = runs_of(tree)
    names, settings = [str(run) for run in runs["run"].values], settings_of(runs)
    decays, seeds = (settings.get(name, [math.nan] * len(names)) for name in ("weight_decay", "seed"))
    first = next((name for name in ("weight_decay", *settings) if name in settings and name != "seed"), "seed")
    grid = configurations_of(runs, first)
    return [
        Row(
            run_id=(run := names[place]),
            weight_decay=float(decays[place]),
            seed=None if math.isnan(seeds[place]) else int(seeds[place]),
            others={
                name: value
                for name, value in zip(grid.axes, one.values, strict=True)
                if name not in ("weight_decay", "seed")
            },
            metric=metric,
            train=_end(measured.get(run), _split("train")),
            val=_end(measured.get(run), _split("val")),
            grok_step=_grok_step(errors.get(run)),
            rank_start=_end(ranks.get(run), _layer_mean, index=0),
            rank_end=_end(ranks.get(run), _layer_mean),
            collapsed=_collapsed(collapse.get(run)),
        )
        for one in grid.configurations
        for place in one.runs
    ]


def summary_markdown(tree: xr.DataTree) -> str:
    """The table of a cube in Markdown, and what its runs were computed on."""
    computed = computed_on(tree)
    return markdown_table(sweep_table(tree)) + (f"\n\nComputed on {computed}." if computed else "")


def computed_on(tree: xr.DataTree) -> str:
    """The processors that the runs were trained on, each with its share of the runs; empty where the cube is silent."""
    runs = runs_of(tree)
    found = Counter(map(str, runs[COMPUTED_ON].values)) if COMPUTED_ON in runs.coords else Counter()
    if len(found) < 2:
        return next(iter(found), "")
    return "; ".join(f"{where} ({count} {'run' if count == 1 else 'runs'})" for where, count in sorted(found.items()))


def _headline(tree: xr.DataTree) -> tuple[str, dict[str, xr.DataArray]]:
    """The first of HEADLINES that the cube has, with its values by run."""
    found = ((name, _by_run(variable(tree, "metrics", name), ("split", "step"))) for name in HEADLINES)
    return next(((name, values) for name, values in found if values), ("err", {}))


def grok_steps(tree: xr.DataTree) -> dict[str, int]:
    """The first step with a validation error below 0.05 of every run that has one."""
    errors = _by_run(variable(tree, "metrics", "err"), ("split", "step"))
    found = {run: _grok_step(values) for run, values in errors.items()}
    return {run: step for run, step in found.items() if step is not None}


def markdown_table(rows: Sequence[Row]) -> str:
    """The rows under their headings as a table in Markdown."""
    lines = [headings(rows), tuple("---" for _ in headings(rows)), *(row.cells for row in rows)]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def _by_run(values: xr.DataArray | None, dims: tuple[str, ...]) -> dict[str, xr.DataArray]:
    if values is None or set(values.dims) != {"run", *dims}:
        return {}
    ordered = values.transpose("run", *dims)
    return {str(run): ordered.isel(run=i) for i, run in enumerate(ordered["run"].values.tolist())}


def _split(name: str) -> Callable[[xr.DataArray], np.ndarray]:
    """What takes the series (step,) of one split."""

    def take(values: xr.DataArray) -> np.ndarray:
        chosen = np.array([str(split) == name for split in values["split"].values])
        return np.append(values.values[chosen], np.full((1, values.sizes["step"]), np.nan), axis=0)[0]

    return take


def _layer_mean(values: xr.DataArray) -> np.ndarray:
    """Mean over the layers that have a value, (step,)."""
    finite = np.isfinite(values.values)
    count = finite.sum(axis=0)
    total = np.where(finite, values.values, 0).sum(axis=0, dtype=np.float64)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def _end(values: xr.DataArray | None, take: Callable[[xr.DataArray], np.ndarray], index: int = -1) -> float:
    """The last finite value of a series, or the first."""
    if values is None:
        return math.nan
    series = take(values)
    finite = series[np.isfinite(series)]
    return float(finite[index]) if len(finite) else math.nan


def _grok_step(values: xr.DataArray | None) -> int | None:
    if values is None:
        return None
    below = _split("val")(values) < GROKKED_BELOW
    return int(values["step"].values[np.argmax(below)]) if below.any() else None


def _collapsed(values: xr.DataArray | None) -> int:
    """Layers collapsed at the last step at which any layer was analysed."""
    if values is None or not values.values.any():
        return 0
    last = np.flatnonzero(values.values.any(axis=0))[-1]
    return int((values.values[:, last] == COLLAPSED).sum())
