"""Tables of layers with the most important numbers."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from specdyn.models.wording import plural
from specdyn.storage.rows import Row, row_values

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

    from specdyn.tasks.library.analysed import Given

ANALYSES = ("effective_rank", "shape", "norms", "power_law", "marchenko_pastur")
"""The analyses behind the table; none needs singular vectors."""
MEASURED = {
    "stable_rank": "stable rank",
    "effective_rank": "eff. rank / rank",
    "spectral_norm": "s_1",
    "power_law_alpha": "alpha",
    "power_law_distance": "fit D",
    "mp_spikes": "spikes",
}
"""Numeric variables of a layer, with their headings."""
COLLAPSED = 2
"""Value of the variable `collapse` of a layer whose largest singular value is below 1e-6."""
COLUMNS = ("role", "rows", "columns", *MEASURED, "collapsed")


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerTable:
    """The layers of one checkpoint."""

    run: str
    step: int
    layers: tuple[Mapping[str, Any], ...]
    """`layer` and COLUMNS of each layer; None where a number does not exist."""

    @property
    def measured(self) -> tuple[str, ...]:
        """The variables of MEASURED that at least one layer has."""
        return tuple(name for name in MEASURED if any(one[name] is not None for one in self.layers))

    def summary(self) -> str:
        """The table in one sentence."""
        layers = self.layers
        ranks = [one["effective_rank"] for one in layers if one["effective_rank"] is not None]
        fits = [one["power_law_alpha"] for one in layers if one["power_law_alpha"] is not None]
        spiky = sum(bool(one["mp_spikes"]) for one in layers)
        parts = [f"mean effective rank {np.mean(ranks):.3f} of the full rank"] if ranks else []
        if fits:
            parts.append(f"median alpha {np.median(fits):.2f} of {plural(len(fits), 'layer')}")
        elif "power_law_distance" in self.measured:
            parts.append("no spectrum long enough for a power law")
        if "mp_spikes" in self.measured:
            parts.append(f"{spiky} with spikes beyond Marchenko-Pastur")
        if "effective_rank" in self.measured:
            parts.append(f"{sum(one['collapsed'] for one in layers)} collapsed")
        return f"{self.run} at {self.step}: {', '.join([plural(len(layers), 'layer'), *parts])}"

    def plain(self) -> dict[str, Any]:
        """The table as JSON values."""
        return {"run": self.run, "step": self.step, "layers": [dict(one) for one in self.layers]}


def table_of_row(row: Row) -> LayerTable:
    """The last measured checkpoint of a run, from its stored results; DamagedResult if these are damaged."""
    chosen = {"effective_rank", "collapse", *MEASURED}
    needed = {url: names for url, names in row.parts.items() if names & chosen}
    parts = Row(
        key=row.key,
        status=row.status,
        layout_of=row.layout_of,
        coordinates=row.coordinates,
        parts={url: names & chosen for url, names in needed.items()},
    )
    arrays, layout = row_values(parts, None), row.layout
    values = {name: arrays[name] for name in chosen if name in arrays}
    extras = {name: list(of) for name, (dim, of) in layout.extras.items() if dim == "layer"}
    label = str({**row.names, **row.coordinates}.get("series", row.key))
    return _table(label, layout.labels["layer"], layout.steps, extras, values)


def tables_of_cube(tree: "xr.DataTree") -> list[LayerTable]:
    """The last measured checkpoint of every run of a cube that has values."""
    layers = tree["layers"].to_dataset()
    names = [name for name in ("collapse", *MEASURED) if name in layers]
    tables = []
    for run in range(layers.sizes["run"]):
        one = layers.isel(run=run)
        values = {name: np.asarray(one[name].transpose("layer", "step")) for name in names}
        extras = {name: one[name].values.tolist() for name in ("role", "rows", "columns") if name in one.coords}
        label = str(one["series"].item()) if "series" in one.coords else str(one["run"].item())
        # Layers of other runs have no values.
        here = np.flatnonzero(
            np.any([np.isfinite(values[name]).any(axis=1) for name in values if name in MEASURED], axis=0)
        )
        of_run = {name: array[here] for name, array in values.items()}
        if len(here):
            extras = {name: [of[i] for i in here] for name, of in extras.items()}
            names_of = [str(one["layer"].values[i]) for i in here]
            tables.append(_table(label, names_of, one["step"].values.tolist(), extras, of_run))
    return tables


def table(what: "Given | xr.DataTree", **options: Any) -> "pd.DataFrame":
    """A row for each layer of a model, of a series' last checkpoint, or of every run of a cube.

    `what` is anything that `analyse` takes, with its options, or a result of `open` or `analyse`. Columns: `role`,
    `rows`, `columns`, `stable_rank`, `effective_rank` (a fraction of the full rank), `spectral_norm`,
    `power_law_alpha`, `power_law_distance`, `mp_spikes` (singular values beyond the Marchenko-Pastur edge),
    `collapsed`; NaN where a number does not exist. The index is the layer, or run and layer where there are several
    runs. Only singular values are computed. Raises the same errors as `analyse`.
    """
    import xarray as xr

    if isinstance(what, xr.DataTree):
        return as_frame(tables_of_cube(what))
    from specdyn.tasks.library.analysed import analyse  # imports torch, which a cube does not need

    return as_frame(tables_of_cube(analyse(what, ANALYSES, **options)))


def as_frame(tables: Sequence[LayerTable]) -> "pd.DataFrame":
    """Tables as one frame by layer, or by run and layer if there are several; NaN where a number does not exist."""
    import pandas as pd

    columns = ["run", "step", "layer", *COLUMNS]
    frame = pd.DataFrame(
        [{"run": of.run, "step": of.step, **layer} for of in tables for layer in of.layers], columns=columns
    )
    for name in MEASURED:
        frame[name] = pd.to_numeric(frame[name])
    if len(tables) > 1:
        return frame.set_index(["run", "layer"])
    return frame.drop(columns=["run", "step"]).set_index("layer")


def _table(
    run: str,
    layers: Sequence[str],
    steps: Sequence[int],
    extras: Mapping[str, Sequence[Any]],
    values: Mapping[str, np.ndarray],
) -> LayerTable:
    """The table of arrays (layer, step) at the last step that has a value."""
    measured = [np.isfinite(array).any(axis=0) for name, array in values.items() if name != "collapse"]
    there = np.flatnonzero(np.any(measured, axis=0)) if measured else np.empty(0)
    last = int(there[-1]) if len(there) else len(steps) - 1
    rows = tuple(_layers(layers, extras, {name: array[:, last] for name, array in values.items()}))
    return LayerTable(run=run, step=int(steps[last]), layers=rows)


def _layers(
    layers: Sequence[str], extras: Mapping[str, Sequence[Any]], values: Mapping[str, np.ndarray]
) -> Iterator[dict[str, Any]]:
    for i, layer in enumerate(layers):
        numbers = {name: _number(values[name][i]) if name in values else None for name in MEASURED}
        if numbers["mp_spikes"] is not None:
            numbers["mp_spikes"] = int(numbers["mp_spikes"]) if numbers["mp_spikes"] >= 0 else None
        yield {
            "layer": str(layer),
            "role": str(extras["role"][i]) if "role" in extras else "",
            "rows": int(extras["rows"][i]),
            "columns": int(extras["columns"][i]),
            **numbers,
            "collapsed": "collapse" in values and int(values["collapse"][i]) == COLLAPSED,
        }


def _number(value: Any) -> float | None:
    return float(value) if np.isfinite(value) else None
