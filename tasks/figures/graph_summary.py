"""Summarises a study of lines or tickets in a few rows, printed by `specdyn connect` and `specdyn tickets`."""

import numpy as np
import xarray as xr

Table = tuple[str, tuple[str, ...], list[tuple[str, ...]]]
"""Title, headings and rows."""


def lines_summary(data: xr.Dataset, metric: str) -> Table:
    """Barriers and agreement of the ends, averaged over pairs, by kind and split step or size."""
    barrier = data[f"barrier_{metric}"]
    if "kept" in barrier.dims:
        barrier = barrier.sel(kept="all")
    agreement = data["agreement_score"].mean("layer")
    noisy = data["kind"].values == "perturbed"
    along = np.where(noisy, data["size"].values if noisy.any() else np.nan, data["split_step"].values)
    rows = []
    for kind in dict.fromkeys(data["kind"].values.tolist()):
        for place in sorted(set(along[data["kind"].values == kind].tolist())):
            chosen = np.flatnonzero((data["kind"].values == kind) & (along == place))
            part = {"pair": chosen}
            of_splits = [_mean(barrier.isel(part).sel(split=split)) for split in ("train", "val")]
            rows.append((kind, f"{place:g}", str(len(chosen)), *of_splits, _mean(agreement.isel(part))))
    title = f"Barriers of the {data[metric].attrs['long_name']}; agreement by chance {_mean(data['agreement_null'])}"
    return title, ("kind", "split step or size", "pairs", "train barrier", "val barrier", "agreement"), rows


def tickets_summary(data: xr.Dataset, metric: str) -> Table:
    """Final metrics and agreement with the dense run, averaged over tickets, by mask and density."""
    last = data.isel(step=-1)
    agreement = last["agreement_dense_score"].mean("layer")
    rows = []
    for mask in dict.fromkeys(data["mask"].values.tolist()):
        of_mask = data["mask"].values == mask
        for density in sorted(set(data["density"].values[of_mask].tolist()), reverse=True):
            part = {"ticket": np.flatnonzero(of_mask & (data["density"].values == density))}
            of_splits = [_mean(last[metric].isel(part).sel(split=split)) for split in ("train", "val")]
            rows.append((mask, f"{density:g}", str(len(part["ticket"])), *of_splits, _mean(agreement.isel(part))))
    name = data[metric].attrs["long_name"]
    title = f"Tickets at their last step; agreement by chance {_mean(data['agreement_null'])}"
    return title, ("mask", "density", "tickets", f"train {name}", f"val {name}", "agreement with dense"), rows


def _mean(values: xr.DataArray) -> str:
    """The mean of measured values; `-` if there are none."""
    mean = float(values.mean())
    return "-" if np.isnan(mean) else f"{mean:.4g}"
