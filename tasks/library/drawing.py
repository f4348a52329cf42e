"""Draws figures of a report from opened results."""

from typing import TYPE_CHECKING

from specdyn.storage.schema import STEP_UNITS

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.figure import Figure


def figure(data: "xr.Dataset | xr.DataTree", name: str, by: str = "") -> "Figure":
    """A figure of a report, or of a plug-in, e.g. `figure(tree, "effective_rank", by="weight_decay")`.

    `data` is a cube, or the group with the figure's variables; `effective_rank` marks grokking only with a cube. `by`
    is the setting shown by colours or panels, by default that of the report. Omits runs without values. Returns a
    matplotlib figure; save it with `savefig`. ValueError for an unknown figure or setting, or if the results lack its
    data.
    """
    import xarray as xr

    from specdyn.storage.query import measured_runs
    from specdyn.tasks.figures.offered.registry import draw_one, get_figure
    from specdyn.tasks.figures.sweep_axis import axis_of
    from specdyn.tasks.library.questions import group_of

    chosen = get_figure(name)
    of_runs = chosen.rows == "run"
    if of_runs and isinstance(data, xr.DataTree) and data.data_vars and not data.children:
        data = data.to_dataset()
    if not isinstance(data, xr.DataTree):
        data = _as_tree(data, group_of(data)) if of_runs else xr.DataTree(data)
    tree = measured_runs(data)
    return draw_one(chosen, tree, by or (axis_of(tree) if of_runs else ""))


def _as_tree(data: "xr.Dataset", group: str) -> "xr.DataTree":
    """A cube of one group; the unit of its steps comes from the long name of `step`."""
    import xarray as xr

    says = data["step"].attrs.get("long_name") if "step" in data.coords else None
    unit = next((unit for unit, long_name in STEP_UNITS.items() if long_name == says), "steps")
    return xr.DataTree.from_dict({"/": xr.Dataset(attrs={"unit": unit}), f"/{group}": data})
