"""The page of a report: one HTML file with every stored variable, usable offline."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import jinja2
import numpy as np
import xarray as xr

from specdyn.models.experiments.base import Experiment, experiment_names, get_experiment
from specdyn.models.nets.layers import short_names
from specdyn.models.spec.run_spec import as_text
from specdyn.models.wording import size
from specdyn.storage.schema import LIVE, MEASURED, PROVENANCE
from specdyn.tasks.figures.configurations import settings_of
from specdyn.tasks.figures.levels import axis_title
from specdyn.tasks.figures.live.beside import NOTHING, Beside
from specdyn.tasks.figures.live.files import SCRIPTS, content
from specdyn.tasks.figures.live.packing import pack, thinning
from specdyn.tasks.figures.live.ran import what_ran
from specdyn.tasks.figures.rows import IDS, SEEDS, along_rows, groups_of, named_rows, rows_dim, shades_of
from specdyn.tasks.figures.summary import Summary, headings
from specdyn.tasks.ledger.stored import Stored, StoredRun, folder_of
from specdyn.tasks.spectra.facts import GROKKED_BELOW

TEMPLATES = jinja2.Environment(
    loader=jinja2.PackageLoader("specdyn.tasks.figures.live", "."),
    # Titles, settings and names of data sets come from users, and go into a page that others open.
    autoescape=True,
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    keep_trailing_newline=True,
)
FIRST: dict[str, tuple[dict[str, str], ...]] = {
    "pair": (
        {"variable": "barrier_loss", "x": "split_step", "title": "barrier of loss by split step"},
        {"variable": "agreement_score", "x": "split_step", "title": "agreement of the ends by split step"},
        {"variable": "barrier_loss", "x": "size", "title": "barrier of loss by size of the perturbation"},
    ),
    "ticket": (
        {"variable": "loss", "x": "density", "log": "y", "title": "loss by density"},
        {"variable": "agreement_dense_score", "x": "density", "title": "agreement with the dense run by density"},
    ),
}
"""What the page of lines or tickets begins with, where the setting named by `x` varies."""
PICTURES: tuple[dict[str, str], ...] = (
    {"variable": "loss", "log": "y", "x": "step", "color": "run"},
    {"variable": "err", "x": "step", "color": "run"},
    {"variable": "cer", "x": "step", "color": "run"},
    {"variable": "effective_rank", "x": "step", "color": "run"},
    {"variable": "effective_rank", "kind": "heat", "x": "step", "color": "layer", "title": "effective rank by layer"},
    {"variable": "singular_value", "log": "y", "x": "step", "color": "rank", "title": "singular values over time"},
    {"variable": "singular_value", "log": "y", "x": "rank", "color": "run", "title": "spectrum"},
    {"variable": "stable_rank", "x": "step", "color": "run"},
    {"variable": "frobenius_norm", "x": "step", "color": "run"},
    {"variable": "spectral_norm", "x": "step", "color": "run"},
    {"variable": "power_law_alpha", "x": "step", "color": "run"},
    {"variable": "mp_spikes", "x": "step", "color": "run", "title": "singular values beyond Marchenko-Pastur"},
    {"variable": "agreement", "kind": "heat", "x": "step", "color": "rank"},
    {"variable": "agreement_score", "x": "step", "color": "run"},
    {"variable": "alignment", "kind": "heat", "x": "step", "color": "rank"},
    {"variable": "alignment_score", "x": "step", "color": "run"},
    {"variable": "update_relative_norm", "x": "step", "color": "run"},
    {"variable": "update_effective_rank", "x": "step", "color": "run"},
    {"variable": "pruned_loss", "log": "y", "x": "step", "color": "run"},
    {"variable": "curve_loss", "log": "y", "x": "share", "color": "run"},
    {"variable": "network_trajectory_coordinate", "x": "step", "color": "component"},
    {"variable": "agreement_dense_score", "x": "step", "color": "run", "title": "agreement with the dense run"},
    {"variable": "agreement_mask_score", "x": "density", "color": "run", "title": "agreement of dense with masked"},
)
"""Charts shown at first, if the cube has the variables; users can add any other variable."""
TITLES = {"pair": "Linear mode connectivity", "ticket": "Lottery tickets"}
LEGIBLE = {"layer": "parameter", "pair": "pair", "attention": "attention"}


@dataclass(frozen=True, slots=True, kw_only=True)
class PageRow:
    """One run, pair or ticket on the page."""

    id: str
    name: str
    """Its unique label."""
    level: int
    """Index of its configuration."""
    about: Mapping[str, str] = field(default_factory=dict)


def page(
    tree: xr.DataTree,
    cube_url: str,
    summary: Summary | None = None,
    whole: xr.DataTree | None = None,
    beside: Beside = NOTHING,
) -> str:
    """The page of a cube.

    `whole` is the cube including unmeasured rows, if the page should mention them; `beside` is further information.
    """
    dim = rows_dim(tree)
    own = _settings(tree, dim)
    rows, levels = _rows(tree, dim, own)
    rows = [_with_stored(row, of, beside.stored) for row, of in zip(rows, _results(tree, dim), strict=True)]
    packed = pack(tree, dim)
    # Where nothing is measured yet, the settings are those of what is planned.
    settings = own if rows or whole is None else _settings(whole, dim)
    axes = _axes(tree, dim, _varied(own, dim))
    names = {variable["name"] for variable in packed.variables}
    first = [one for one in FIRST.get(dim, ()) if one["x"] in axes]
    report = {
        "url": cube_url,
        "unit": str(tree.attrs.get("unit", "steps")).removesuffix("s"),
        "rows": {"dim": dim, "labels": [{"id": row.id, "name": row.name, "level": row.level} for row in rows]},
        "levels": levels,
        "axes": axes,
        "labels": packed.labels,
        "short": {name: short_names(packed.labels[name]) for name in LEGIBLE if name in packed.labels and name != dim},
        "variables": packed.variables,
        "pictures": [one for one in (*first, *PICTURES) if one["variable"] in names],
    }
    experiment = str(tree.attrs.get("experiment", ""))
    preset = str(tree.attrs.get("preset", ""))
    known = get_experiment(experiment) if experiment in experiment_names() else None
    return TEMPLATES.get_template("page.html").render(
        title=": ".join(filter(None, (TITLES.get(dim), str(tree.attrs.get("title") or "") or "Results"))),
        cube_url=cube_url,
        noun=f"{dim}s" if len(rows) != 1 else dim,
        one=dim,
        rows=rows,
        ids={row.id for row in rows},
        data=f"Trained on {data}." if (data := tree.attrs.get("data")) else "",
        notes=_notes(whole, dim),
        headings=headings(summary.rows) if summary and summary.rows else (),
        summary=[row.cells for row in summary.rows] if summary else (),
        grokked_below=GROKKED_BELOW,
        varied=[axis_title(name) for name in _varied(own, dim) if name not in SEEDS.get(dim, ())],
        ran=what_ran(
            {name: texts for name, texts in settings.items() if name not in IDS.get(dim, ())},
            experiment,
            preset,
            _said(tree, dim),
        ),
        took=beside.took,
        judged=beside.judged,
        held=beside.stored.totals(_results(tree, dim), dim),
        unfinished=_unfinished(beside.stored, whole, dim),
        deviations=_deviations(known, preset) if known else (),
        thinned=thinning(packed.variables, packed.labels),
        css=content("live.css"),
        library=content(SCRIPTS[0]),
        program=content(SCRIPTS[1]),
        # Names come from users: no tag or comment may begin inside the script.
        report=json.dumps(report, default=_plain).replace("<", "\\u003c"),
        block=packed.block,
    )


def _deviations(known: Experiment, preset: str) -> list[str]:
    """Where an experiment differs from the paper, without what is said of other presets than the study's."""
    kept = []
    for sentence in known.deviations:
        of = {name.strip() for name in sentence.partition(":")[0].split(",")} & set(known.presets)
        if preset not in known.presets or not of or preset in of:
            kept.append(sentence)
    return kept


def _said(tree: xr.DataTree, dim: str) -> dict[str, str]:
    """What the results say of coordinates along rows, with units."""
    along = along_rows(tree, dim)
    assert along is not None
    said = {}
    for name, coordinate in along.coords.items():
        text, units = str(coordinate.attrs.get("comment", "")), str(coordinate.attrs.get("units", "1"))
        said[str(name)] = f"{text} ({units})" if text and units != "1" else text
    return said


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else str(value)


def _settings(tree: xr.DataTree, dim: str) -> dict[str, list[str]]:
    """Every setting as text for each row: from the group of all settings, else from the coordinates."""
    along = along_rows(tree, dim)
    assert along is not None
    known = {name: list(map(as_text, values)) for name, values in settings_of(along).items()}
    hidden = {dim, *LIVE, "source"}
    return known | {
        str(name): [as_text(value) for value in column.values.tolist()]
        for name, column in _sources(tree, dim).variables.items()
        if column.dims == (dim,) and name not in hidden and column.attrs.get("role") != PROVENANCE
    }


def _rows(
    tree: xr.DataTree, dim: str, settings: Mapping[str, Sequence[str]]
) -> tuple[list[PageRow], list[dict[str, str]]]:
    """The rows with unique labels, and the configurations with their colours."""
    along = along_rows(tree, dim)
    assert along is not None
    ids = [str(value) for value in along[dim].values.tolist()] if dim in along.coords else []
    varied = _varied(settings, dim)
    last = (
        sorted(varied, key=lambda name: name == "seed")
        if dim == "run"
        else [name for name in SEEDS[dim] if name in varied]
    )
    own = [", ".join(f"{axis_title(name)} {settings[name][i]}" for name in last[:4]) for i in range(along.sizes[dim])]
    names = (
        own
        if dim == "run"
        else [", ".join(filter(None, both)) for both in zip(named_rows(along, dim), own, strict=True)]
    )
    names = [name or (ids[i] if ids else str(i + 1)) for i, name in enumerate(names)]
    names = [name if names.count(name) == 1 else f"{name} ({ids[i]})" for i, name in enumerate(names)]
    groups = groups_of(tree, dim, along)
    of_row = {row: level for level, (_, rows) in enumerate(groups) for row in rows}
    colors = shades_of(groups, along, dim)
    provenance = _provenance(tree, dim)
    rows = [
        PageRow(
            id=ids[i],
            name=names[i],
            level=of_row[i],
            about={
                dim: ids[i],
                **{axis_title(n): settings[n][i] for n in (*varied, *IDS.get(dim, ()))},
                **{n: v[i] for n, v in provenance.items()},
            },
        )
        for i in range(along.sizes[dim])
    ]
    return rows, [{"name": name, "color": color} for (name, _), color in zip(groups, colors, strict=True)]


def _varied(settings: Mapping[str, Sequence[str]], dim: str) -> list[str]:
    """The settings in which rows differ, without what identifies them."""
    return [name for name, texts in settings.items() if len(set(texts)) > 1 and name not in IDS.get(dim, ())]


def _axes(tree: xr.DataTree, dim: str, varied: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Settings of numbers in which rows differ: the values of each, and what rows are by all others, with a colour."""
    along = along_rows(tree, dim)
    assert along is not None
    known = settings_of(along)
    numbers = [
        name
        for name in varied
        if name in known and name not in ("seed", *SEEDS.get(dim, ())) and _are_numbers(known[name])
    ]
    axes = {}
    for name in numbers:
        lines = named_rows(along, dim, name)
        rows = [(line, [i for i, other in enumerate(lines) if other == line]) for line in dict.fromkeys(lines)]
        colors = shades_of(rows, along, dim)
        axes[name] = {"values": known[name], "lines": lines, "colors": dict(zip(dict(rows), colors, strict=True))}
    return axes


def _are_numbers(values: Sequence[Any]) -> bool:
    return all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)


def _sources(tree: xr.DataTree, dim: str) -> xr.Dataset:
    """The columns with all settings and sources of the rows; empty if the cube has none."""
    group = {"run": "runs"}.get(dim, "sources")
    return tree[group].to_dataset() if group in tree.children else xr.Dataset()


def _provenance(tree: xr.DataTree, dim: str) -> dict[str, list[str]]:
    table = _sources(tree, dim)
    names = [name for name in ("status", "computed_on", "source") if name in table.variables]
    return {name.replace("_", " "): [str(value) for value in table[name].values.tolist()] for name in names}


def _results(tree: xr.DataTree, dim: str) -> list[str]:
    """The id of the results of each row; empty if the cube lacks it."""
    along = along_rows(tree, dim)
    assert along is not None
    table = _sources(tree, dim)
    return [str(of) for of in table["results"].values] if "results" in table else [""] * along.sizes[dim]


def _with_stored(row: PageRow, results: str, stored: Stored) -> PageRow:
    """The row, with facts about it from the store."""
    run, count = stored.runs.get(row.id), stored.results.get(folder_of(results))
    held = {**(run.about if run else {}), **({} if count is None else {"results": size(count)})}
    return replace(row, about={**row.about, **held})


def _unfinished(stored: Stored, whole: xr.DataTree | None, dim: str) -> list[tuple[str, StoredRun]]:
    """The failed runs, each with its name in the study, or its id if it is not part of the study."""
    rows = _rows(whole, dim, _settings(whole, dim))[0] if whole is not None and stored.unfinished else []
    names = {row.id: f"{row.name} ({row.id})" for row in rows if row.name != row.id}
    return [(names.get(run.run_id, run.run_id), run) for run in stored.unfinished]


def _notes(whole: xr.DataTree | None, dim: str) -> list[str]:
    """Notes on rows that are not measured yet or failed."""
    along = along_rows(whole, dim) if whole is not None else None
    if along is None or "status" not in along.coords:
        return []
    statuses = along["status"].values.tolist()
    counts = {status: statuses.count(status) for status in dict.fromkeys(statuses) if status != "done"}
    missing = ", ".join(f"{count} {status}" for status, count in counts.items())
    measured = sum(status in MEASURED for status in statuses)
    return [f"Incomplete: {measured} of {len(statuses)} {dim}s have values; {missing}."] if counts else []
