"""The summary table of a sweep: each run's final metrics, grokking step, and change of effective rank."""

from __future__ import annotations

import dataclasses
import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from specdyn.models.spec.run_spec import as_text
from specdyn.models.wording import plural
from specdyn.storage.access import objects
from specdyn.storage.schema import METRICS_GROUP, RUNS_GROUP, SPLITS
from specdyn.tasks.figures.configurations import configurations_of, runs_of, settings_of

if TYPE_CHECKING:
    import xarray as xr

COMPUTED_ON = "computed_on"
"""Variable with the processor on which each run was trained."""

SUMMARY = "summary.json"
"""The file next to a report with its summary."""

HEADLINES: dict[str, tuple[str, float, str]] = {
    "err": ("error (%)", 100, ".1f"),
    "cer": ("CER (%)", 100, ".1f"),
    "loss": ("loss", 1, ".4g"),
}
"""Candidate metrics of a row (the first that a sweep has is shown): heading, factor and format."""

RUN_FACTS = ("grok_step", "initial_effective_rank", "final_effective_rank", "final_collapsed_layers")
"""The facts that a row shows besides the metric; see tasks/spectra/facts.py."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One run of a sweep; NaN or None for missing results."""

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
        """The cells under the headings."""
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
    """The table of a cube and the runs' processors; stored next to a report for quick access."""

    rows: tuple[Row, ...]
    computed_on: str
    contents: str
    """The cube's attribute `contents` when the summary was made."""


def summary_of(tree: xr.DataTree) -> Summary:
    """The summary of a cube."""
    rows = tuple(sweep_table(tree))
    return Summary(rows=rows, computed_on=computed_on(tree), contents=str(tree.attrs.get("contents", "")))


def write_summary(url: str, summary: Summary) -> None:
    """Write a summary as JSON."""
    objects.write(url, json.dumps(dataclasses.asdict(summary), indent=1).encode())


def read_summary(url: str) -> Summary | None:
    """A summary written by `write_summary`; None if it is missing or invalid."""
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


def sweep_table(tree: xr.DataTree) -> list[Row]:
    """A row for each run of a cube, sorted by weight decay, other varied settings, and seed."""
    runs = runs_of(tree)
    settings = settings_of(runs)
    first = next((name for name in ("weight_decay", *settings) if name in settings and name != "seed"), "seed")
    grid = configurations_of(runs, first)
    facts = run_facts(tree)
    metric = facts.attrs["metric"]
    known = {str(name): fact.values.tolist() for name, fact in facts.items()}
    run_ids = runs["run"].values.tolist()  # of all runs at once: the index is converted whole each time
    decays, seeds = (settings.get(name, [math.nan] * runs.sizes["run"]) for name in ("weight_decay", "seed"))
    return [
        Row(
            run_id=str(run_ids[place]),
            weight_decay=float(decays[place]),
            seed=_whole(seeds[place]),
            others={
                name: value
                for name, value in zip(grid.axes, one.values, strict=True)
                if name not in ("weight_decay", "seed")
            },
            metric=metric,
            train=known["train"][place],
            val=known["val"][place],
            # A threshold on the error does not apply to a sweep with another headline metric.
            grok_step=_whole(known["grok_step"][place]) if metric == "err" else None,
            rank_start=known["initial_effective_rank"][place],
            rank_end=known["final_effective_rank"][place],
            collapsed=_whole(known["final_collapsed_layers"][place]) or 0,
        )
        for one in grid.configurations
        for place in one.runs
    ]


def run_facts(tree: xr.DataTree) -> xr.Dataset:
    """Facts of each run from the cube, along `run` and in memory; NaN where missing.

    `train` and `val` are the last values of the first of HEADLINES in the cube; the attribute `metric` names it.
    """
    import xarray as xr

    metrics = tree[METRICS_GROUP].to_dataset() if METRICS_GROUP in tree.children else xr.Dataset()
    metrics = metrics.reset_coords(drop=True)  # a setting may have the name of a fact
    metric = next((name for name in HEADLINES if f"final_{name}" in metrics), "err")
    runs = runs_of(tree)["run"].reset_coords(drop=True)
    unknown = xr.full_like(runs, math.nan, dtype=float)
    final = metrics.get(f"final_{metric}", unknown.expand_dims(split=[])).reindex(split=list(SPLITS))
    facts = {name: metrics.get(name, unknown) for name in RUN_FACTS}
    facts |= {split: final.sel(split=split, drop=True) for split in SPLITS}
    return xr.Dataset(facts, attrs={"metric": metric}).load()


def _whole(value: float) -> int | None:
    return None if math.isnan(value) else int(value)


def summary_markdown(tree: xr.DataTree) -> str:
    """The table of a cube in Markdown, and the processors of its runs."""
    computed = computed_on(tree)
    return markdown_table(sweep_table(tree)) + (f"\n\nComputed on {computed}." if computed else "")


def computed_on(tree: xr.DataTree) -> str:
    """The processors on which the runs were trained, each with its number of runs; empty if unknown."""
    runs = tree[RUNS_GROUP].to_dataset() if RUNS_GROUP in tree.children else {}
    counts = Counter(map(str, runs[COMPUTED_ON].values)) if COMPUTED_ON in runs else Counter()
    if len(counts) < 2:
        return next(iter(counts), "")
    return "; ".join(f"{where} ({plural(count, 'run')})" for where, count in sorted(counts.items()))


def markdown_table(rows: Sequence[Row]) -> str:
    """The rows under their headings as a table in Markdown."""
    lines = [headings(rows), tuple("---" for _ in headings(rows)), *(row.cells for row in rows)]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)
