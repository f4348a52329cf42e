"""Results made by hand for figures: sweeps, lines between runs, and lottery tickets, with known values."""

import itertools
from typing import Any

import numpy as np
import xarray as xr

from specdyn.storage.schema import SCHEMA_VERSION

STRING = np.dtypes.StringDType()
MATRICES = ("in.weight", "mid.weight", "out.weight")
NAN = float("nan")
LAYERS = ("embed.weight", "blocks.0.in_proj_weight", "blocks.0.out_proj.weight")
SHAPES = ((4, 8), (24, 8), (8, 8))
PAIRS = (
    "embed.weight -> blocks.0.in_proj_weight",
    "blocks.0.in_proj_weight[key] -> blocks.0.in_proj_weight[query]",
    "blocks.0.in_proj_weight[value] -> blocks.0.out_proj.weight",
)
WIDTHS = (8, 2, 2)
"""The shared width of the layers of a pair: heads share their own width."""
STEPS = [0, 1, 5, 10]


def cube(decays: tuple[float, ...] = (0.0, 0.5, 2.0), seeds: int = 2) -> xr.DataTree:
    """Random values between 0 and 1; runs are stored with the largest weight decay and seed first."""
    cells = [(decay, seed) for decay in sorted(decays, reverse=True) for seed in reversed(range(seeds))]
    sizes = {"run": len(cells), "step": len(STEPS), "layer": 3, "pair": 3, "rank": 8, "split": 2, "kept": 2}
    draw = np.random.default_rng(0)

    def group(labels: dict[str, object], **variables: str) -> xr.Dataset:
        values = {}
        for name, dims in variables.items():
            over = ("run", *dims.split())
            values[name] = (over, draw.uniform(0.1, 0.9, [sizes[dim] for dim in over]).astype(np.float32))
        runs = {
            "run": np.array([f"r{i}" for i in range(len(cells))], STRING),
            "weight_decay": ("run", [decay for decay, _ in cells]),
            "seed": ("run", [seed for _, seed in cells]),
            "optimizer": ("run", np.array(["adamw"] * len(cells), STRING)),
        }
        return xr.Dataset(values, {**runs, "step": STEPS, **labels})

    ranks = np.arange(1, 9)
    layers = group(
        {
            "layer": np.array(LAYERS, STRING),
            "rank": ranks,
            "rows": ("layer", [m for m, _ in SHAPES]),
            "columns": ("layer", [n for _, n in SHAPES]),
        },
        singular_value="layer step rank",
        agreement="layer step rank",
        agreement_score="layer step",
        effective_rank="layer step",
        effective_rank_count="layer step",
        effective_rank_ratio="layer step",
        gini="layer step",
    )
    layers["agreement_null"] = ("run", "layer"), [[2 / np.pi / np.sqrt(m * n) for m, n in SHAPES]] * len(cells)
    layers["collapse"] = xr.ones_like(layers["effective_rank"], dtype=np.int8)
    layers["singular_value"][:, 0, :, 4:] = NAN
    pairs = group(
        {"pair": np.array(PAIRS, STRING), "rank": ranks}, alignment="pair step rank", alignment_score="pair step"
    )
    pairs["alignment"][:, 1, :, 2:] = NAN
    pairs["alignment_null"] = ("run", "pair"), [[np.sqrt(2 / np.pi / width) for width in WIDTHS]] * len(cells)
    metrics = group(
        {"split": np.array(["train", "val"], STRING), "kept": np.array(["top", "bottom"], STRING)},
        loss="split step",
        err="split step",
        pruned_loss="kept split step",
        pruned_err="kept split step",
        cer="split step",
        pruned_cer="kept split step",
        wer="split step",
        pruned_wer="kept split step",
    )
    metrics["loss"].attrs = {"long_name": "loss", "units": "nat"}
    tree = {"/layers": layers, "/pairs": pairs, "/metrics": metrics}
    return xr.DataTree.from_dict(
        {"/": xr.Dataset(attrs={"schema_version": SCHEMA_VERSION, "title": "A <sweep>"}), **tree}
    )


def smallest() -> xr.DataTree:
    """A cube of two runs with one layer and one pair of layers, sufficient for every figure of runs."""
    tree = cube(decays=(0.0, 1.0), seeds=1)
    whole = {node.path: node.to_dataset(inherit=False) for node in tree.subtree}
    return xr.DataTree.from_dict(
        {path: data.isel({dim: [-1] for dim in ("layer", "pair") if dim in data.dims}) for path, data in whole.items()}
    )


def columns(dim: str, rows: list[dict[str, Any]]) -> dict[str, Any]:
    """The coordinates of a dimension from its items' attributes."""
    found = {name: [row[name] for row in rows] for name in rows[0]}
    return {n: (dim, np.array(v, STRING if isinstance(v[0], str) else None)) for n, v in found.items()}


def pairs(decays: tuple[float, ...] = (1.0,), across_at: tuple[int, ...] = (50, 1000)) -> xr.Dataset:
    """Pairs of three orders of two trunks at three steps, pairs of the trunks at two of them, and pairs after noise."""
    same: dict[str, Any] = {"size": 0.0, "direction": "none"}
    rows: list[dict[str, Any]] = []
    for decay, step in itertools.product(decays, (0, 50, 1000)):
        for trunk, (a, b) in itertools.product((0, 1), itertools.combinations((3, 4, 5), 2)):
            ends = {"trunk_a": trunk, "trunk_b": trunk, "order_a": a, "order_b": b}
            rows.append({"kind": "within", **ends, "split_step": step, "weight_decay": decay, **same})
        for order in (3, 4, 5) if step in across_at else ():
            ends = {"trunk_a": 0, "trunk_b": 1, "order_a": order, "order_b": order}
            rows.append({"kind": "across", **ends, "split_step": step, "weight_decay": decay, **same})
    for decay, trunk, size, direction in itertools.product(decays, (0, 1), (0.0, 0.5), ("random", "top")):
        ends = {"trunk_a": trunk, "trunk_b": trunk, "order_a": 3, "order_b": 4}
        noise = {"size": size, "direction": direction}
        rows.append({"kind": "perturbed", **ends, "split_step": 1000, "weight_decay": decay, **noise})
    for number, row in enumerate(rows):
        row |= {"run_a": f"a{number}", "run_b": f"b{number}"}
    draw, count = np.random.default_rng(0), len(rows)
    barrier = draw.uniform(size=(count, 2, 3))
    agreement = draw.uniform(size=(count, len(MATRICES), 6))
    agreement[:, 0, 4:] = np.nan
    data = {
        "barrier_loss": (("pair", "split", "kept"), barrier),
        "barrier_matched_loss": (("pair", "split"), barrier[..., 0] / 2),
        "agreement": (("pair", "layer", "rank"), agreement),
        "agreement_score": (("pair", "layer"), np.nanmean(agreement, axis=-1)),
        "agreement_null": (("pair", "layer"), np.full((count, len(MATRICES)), 0.1)),
        "loss": (("pair", "split"), barrier[..., 0], {"long_name": "loss"}),
    }
    labels = {"split": np.array(["train", "val"], STRING), "kept": np.array(["all", "top", "bottom"], STRING)}
    return xr.Dataset(
        data,
        {
            "pair": [f"p{number}" for number in range(count)],
            "layer": np.array(MATRICES, STRING),
            "rank": range(1, 7),
            **columns("pair", rows),
            "status": ("pair", np.array(["done"] * count, STRING)),
            **labels,
        },
    )


def tickets(densities: tuple[float, ...] = (0.1, 0.5)) -> xr.Dataset:
    """Tickets of three trunks, two orders and two rewind steps, at densities and by two masks."""
    rows = [
        {"trunk": trunk, "order": order, "rewind_step": rewind, "density": density, "mask": mask}
        for trunk, order, rewind, density, mask in itertools.product(
            (0, 1, 2), (5, 6), (10, 20), densities, ("magnitude", "random")
        )
    ]
    draw, count = np.random.default_rng(0), len(rows)
    dense, masked = draw.uniform(size=(count, 3, len(MATRICES), 6)), draw.uniform(size=(count, len(MATRICES), 6))
    return xr.Dataset(
        {
            "loss": (("ticket", "step", "split"), draw.uniform(0.1, 1, (count, 3, 2)), {"long_name": "loss"}),
            "agreement_dense": (("ticket", "step", "layer", "rank"), dense),
            "agreement_dense_score": (("ticket", "step", "layer"), dense.mean(axis=-1)),
            "agreement_mask": (("ticket", "layer", "rank"), masked),
            "agreement_mask_score": (("ticket", "layer"), masked.mean(axis=-1)),
            "agreement_null": (("ticket", "layer"), np.full((count, len(MATRICES)), 0.1)),
        },
        {
            "ticket": range(count),
            **columns("ticket", rows),
            "step": [10, 20, 40],
            "layer": np.array(MATRICES, STRING),
            "rank": range(1, 7),
            "split": np.array(["train", "val"], STRING),
        },
    )
