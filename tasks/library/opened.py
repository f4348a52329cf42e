"""Opens stored results."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import xarray as xr


def opened(place: str, study: str = "") -> "xr.DataTree":
    """The cube of a study, by its own URL or by its store and name.

    `open("results", "my-study")` and `open("results/studies/my-study")` are equivalent. Returns an
    `xarray.DataTree`, read lazily: groups `layers` (run, layer, step, ...), `pairs`, `attention`, `metrics`, and `runs`
    with all settings; NaN beyond a layer's rank and where nothing was computed. The coordinate `status` says how far
    each run is; the accessor `specdyn` offers queries and figures. StoreError, listing the store's studies, if none or
    an unknown one is named; DamagedCube if results are damaged.
    """
    from specdyn.storage.query import open_study
    from specdyn.tasks.library.accessor import register

    register()
    return open_study(place, study)
