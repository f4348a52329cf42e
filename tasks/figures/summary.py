"""The table of a sweep: how each run ended, when it generalised, and how its effective rank moved."""

from __future__ import annotations

import dataclasses
import itertools
import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from specdyn.models.spec.run_spec import as_text
from specdyn.storage.access import objects
from specdyn.tasks.figures.configurations import configurations_of, runs_of, settings_of

if TYPE_CHECKING:
    import xarray as xr

COMPUTED_ON = "computed_on"
"""Coordinate along `run` that says what a run was trained on."""

SUMMARY = "summary.json"
"""The file beside a report that holds its summary."""

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
    """The metric on the training examples, at the last checkpoint."""
    val: float
    grok_step: int | None
    """The step at which it groks: see `grok_step` in tasks/spectra/facts.py."""
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """The table of a cube and what its runs were computed on: kept beside a report, so that both are known at once."""

    rows: tuple[Row, ...]
    computed_on: str
    contents: str
    """What the cube held, as its attribute `contents` says."""


def summary_of(tree: xr.DataTree) -> Summary:
    """The summary of a cube."""
    rows = tuple(sweep_table(tree))
    return Summary(rows=rows, computed_on=computed_on(tree), contents=str(tree.attrs.get("contents", "")))


def write_summary(url: str, summary: Summary) -> None:
    """Put a summary as JSON."""
    objects.write(url, json.dumps(dataclasses.asdict(summary), indent=1).encode())


def read_summary(url: str) -> Summary | None:
    """A summary that `write_summary` put; None where there is none, or something else."""
    try:
        plain = json.loads(objects.read(url))
        return Summary(**{**plain, "rows": tuple(Row(**row) for row in plain["rows"])})
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None


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
    metric, final = _headline(tree)
    groks = grok_steps(tree)
    start, end = _fact(tree, "initial_effective_rank"), _fact(tree, "final_effective_rank")
    collapsed = _fact(tree, "final_collapsed_layers")
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
            train=final.get((run, "train"), math.nan),
            val=final.get((run, "val"), math.nan),
            grok_step=groks.get(run) if metric == "err" else None,
            rank_start=start.get(run, math.nan),
            rank_end=end.get(run, math.nan),
            collapsed=int(collapsed.get(run, 0)),
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


def _headline(tree: xr.DataTree) -> tuple[str, dict[tuple[str, str], float]]:
    """The first of HEADLINES that the cube has, with its values at the end by run and split."""
    for name in HEADLINES:
        values = variable(tree, "metrics", f"final_{name}")
        if values is not None:
            by_label = values.transpose("run", "split")
            runs, splits = (map(str, by_label[dim].values.tolist()) for dim in ("run", "split"))
            places = itertools.product(runs, list(splits))
            return name, dict(zip(places, by_label.values.ravel().tolist(), strict=True))
    return "err", {}


def _fact(tree: xr.DataTree, name: str) -> dict[str, float]:
    """A fact of every run that has it."""
    values = variable(tree, "metrics", name)
    if values is None:
        return {}
    by_run = zip(values["run"].values.tolist(), values.values.tolist(), strict=True)
    return {str(run): value for run, value in by_run if not math.isnan(value)}


def grok_steps(tree: xr.DataTree) -> dict[str, int]:
    """The step at which each run groks that does, as the cube has it (`grok_step`)."""
    return {run: int(step) for run, step in _fact(tree, "grok_step").items()}


def markdown_table(rows: Sequence[Row]) -> str:
    """The rows under their headings as a table in Markdown."""
    lines = [headings(rows), tuple("---" for _ in headings(rows)), *(row.cells for row in rows)]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)
