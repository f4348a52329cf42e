"""Makes the small store that pages query: `python -m docs.site.example STORE` writes docs/example/results.zip.

The commands below make the two studies in STORE, in about ten minutes on one core, unless they exist. The archive keeps
only the variables of their cubes that the pages use, every fifth checkpoint, and the first ten ranks.
"""

import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import xarray as xr
import zarr

from specdyn.storage.query import open_results

PLACE = Path(__file__).parents[1] / "example" / "results.zip"
LARGEST = 300_000
RANKS = 10
EVERY = 5
SWEEP = "run modular_addition --sweep decay --no-report"
SECOND_SEED = "run modular_addition -w 2 -s 1 --sweep decay --no-report"
LINES = (
    "connect modular_addition -s 0,1 --set weight_decay=2 --set steps=750 --splits 0,250 --orders 3,4 --name basins"
    " --no-report"
)
CUBES = {"decay": ("sweep", "results.zarr"), "basins": ("connectivity", "connectivity.zarr")}
"""Study -> its record and its cube."""
KEPT = {
    "layers": (
        *("effective_rank", "stable_rank", "spectral_norm", "frobenius_norm", "singular_value", "collapse"),
        *("agreement_score", "agreement_null", "null_effective_rank", "distance_from_initial", "mp_spikes"),
        *("power_law_alpha", "power_law_status", "update_relative_norm"),
    ),
    "pairs": ("alignment_score", "alignment_null"),
    "attention": ("head_alignment_score",),
    "metrics": (
        *("loss", "err", "pruned_loss", "pruned_err", "grok_step", "grok_censored", "final_loss", "final_err"),
        *("initial_effective_rank", "final_effective_rank", "log_norm_product"),
    ),
}
"""Group -> variables kept of the sweep's cube; of the lines, those without positions on a line are kept."""


def main(store: str) -> None:
    """Make what the store lacks, and write the archive; AssertionError if it is too large."""
    for command in (SWEEP, SECOND_SEED, LINES):
        subprocess.run([sys.executable, "-m", "specdyn", *command.split(), "--store", store], check=True)
    with tempfile.TemporaryDirectory() as folder, zarr.config.set({"array.write_empty_chunks": True}):
        for study, (record, cube) in CUBES.items():
            source, target = Path(store) / "studies" / study, Path(folder) / "studies" / study
            small(open_results(str(source / cube)), cube == "results.zarr").to_zarr(
                target / cube, zarr_format=3, consolidated=True, write_inherited_coords=True
            )
            shutil.copy(source / f"{record}.json", target)
            if (source / f"{record}.versions").is_dir():
                shutil.copytree(source / f"{record}.versions", target / f"{record}.versions")
        shutil.copy(Path(store) / "specdyn.json", folder)
        pack(Path(folder), PLACE)
    size = PLACE.stat().st_size
    assert size < LARGEST, f"{PLACE} has {size} bytes"
    print(f"{PLACE}: {size / 1000:.0f} kB")


def small(tree: xr.DataTree, sweep: bool) -> xr.DataTree:
    """The cube with fewer variables and ranks, in memory."""

    def chosen(node: xr.DataTree) -> xr.Dataset:
        data = node.to_dataset(inherit=False)
        if sweep and node.name in KEPT:
            data = data[[name for name in KEPT[node.name] if name in data]]
        elif not sweep:
            data = data.drop_vars([name for name, values in data.data_vars.items() if values.nbytes > 4_000])
        if "rank" in data.dims:
            data = data.isel(rank=slice(0, RANKS))
        if sweep and "step" in data.dims:
            data = data.isel(step=slice(None, None, EVERY))
        data = data.load()
        for variable in data.variables.values():
            variable.encoding = {k: v for k, v in variable.encoding.items() if k in ("_FillValue", "dtype")}
        return data

    return xr.DataTree.from_dict({node.path: chosen(node) for node in tree.subtree})


def pack(folder: Path, place: Path) -> None:
    """Pack all files of a folder into a reproducible archive."""
    place.parent.mkdir(exist_ok=True)
    with zipfile.ZipFile(place, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for path in sorted(path for path in folder.rglob("*") if path.is_file()):
            entry = zipfile.ZipInfo(str(path.relative_to(folder)), date_time=(1980, 1, 1, 0, 0, 0))
            archive.writestr(entry, path.read_bytes(), zipfile.ZIP_DEFLATED, 9)


if __name__ == "__main__":
    main(sys.argv[1])
