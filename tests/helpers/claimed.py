"""Small cubes in memory for judging claims, labelled like real ones, with values chosen by a test."""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr

from specdyn.tasks.evidence.claim import get_claim
from specdyn.tasks.verdicts.judging import Cubes, Verdict, judge

LAYERS = ("encoder.weight", "a.weight", "b.weight", "layers.0.linear1.weight", "layers.0.linear2.weight", "out.weight")
PAIRS = tuple(f"{a} -> {b}" for a, b in itertools.pairwise(LAYERS))
STEPS = tuple(range(0, 2001, 50))
T, L, R, P = len(STEPS), len(LAYERS), 16, len(PAIRS)
TIME = np.linspace(0, 1, T)
WAYS = ("top", "bottom", "random", "random_directions", "energy_matched")

DIMS: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "effective_rank": ("layers", ("layer", "step")),
    "collapse": ("layers", ("layer", "step")),
    "frobenius_norm": ("layers", ("layer", "step")),
    "spectral_norm": ("layers", ("layer", "step")),
    "singular_value": ("layers", ("layer", "step", "rank")),
    "agreement": ("layers", ("layer", "step", "rank")),
    "alignment": ("pairs", ("pair", "step", "rank")),
    "alignment_score": ("pairs", ("pair", "step")),
    "alignment_null": ("pairs", ("pair",)),
    "loss": ("metrics", ("split", "step")),
    "err": ("metrics", ("split", "step")),
    "pruned_loss": ("metrics", ("kept", "split", "step")),
    "curve_loss": ("metrics", ("way", "share", "split", "step")),
}
LABELS: Mapping[str, Sequence[Any]] = {
    "layer": LAYERS,
    "step": STEPS,
    "rank": range(1, R + 1),
    "pair": PAIRS,
    "split": ("train", "val"),
    "kept": ("top", "bottom"),
    "way": WAYS,
    "share": (0.5,),
}
SETTINGS = {"weight_decay": 0.0, "train_fraction": 0.3, "layernorm": False, "optimizer": "adamw", "norm_run": ""}


def falling(start: float, end: float, at: float = 0.5, width: float = 0.02) -> np.ndarray:
    """A curve (T,) that falls at a share of all steps."""
    return end + (start - end) / (1 + np.exp((TIME - at) / width))


def run(seed: int, status: str = "done", values: Mapping[str, Any] | None = None, **settings: Any) -> dict[str, Any]:
    """A run with the given values, broadcast to their shape; other values are those of a network that never changes."""
    usual: dict[str, Any] = {
        "effective_rank": 0.9,
        "collapse": 1.0,
        "frobenius_norm": 10.0,
        "spectral_norm": 3.0,
        "singular_value": np.linspace(2, 1, R),
        "agreement": 1.0,
        "alignment": 0.1,
        "alignment_score": 0.1,
        "alignment_null": 0.1,
        "loss": 1.0,
        "err": 0.5,
        "pruned_loss": 1.0,
        "curve_loss": 1.0,
    }
    given = {**usual, **(values or {})}
    arrays = {
        name: np.array(np.broadcast_to(given[name], [len(LABELS[dim]) for dim in dims]), dtype=float)
        for name, (_, dims) in DIMS.items()
    }
    return {"seed": seed, "status": status, "arrays": arrays, "settings": {**SETTINGS, **settings}}


def tree(*runs: dict[str, Any], experiment: str = "modular_addition", without: Sequence[str] = ()) -> xr.DataTree:
    """The cube of runs, without some variables."""
    ids = [one["settings"].get("run_id") or f"run{i}" for i, one in enumerate(runs)]
    along = {"run": ids, "status": ("run", [one["status"] for one in runs], {"role": "provenance"})}
    names = dict.fromkeys(name for one in runs for name in one["settings"] if name != "run_id")
    settings = {name: ("run", [one["settings"][name] for one in runs]) for name in names}
    groups: dict[str, xr.Dataset] = {}
    for group in ("layers", "pairs", "metrics"):
        own = {name: dims for name, (of, dims) in DIMS.items() if of == group and name not in without}
        found = {
            name: (
                ("run", *dims),
                np.array([np.where(one["status"] == "planned", np.nan, one["arrays"][name]) for one in runs]),
            )
            for name, dims in own.items()
        }
        dims = {dim for one in own.values() for dim in one}
        epochs = {"epoch": ("step", TIME * 164), "learning_rate_at": ("step", np.where(TIME < 0.5, 0.1, 0.01))}
        labels = {dim: list(LABELS[dim]) for dim in dims}
        groups[group] = xr.Dataset(found, {**along, **labels, **epochs, "seed": ("run", [one["seed"] for one in runs])})
    groups["runs"] = xr.Dataset({"seed": ("run", [one["seed"] for one in runs]), **settings}, along)
    attributes = {"experiment": experiment, "contents": "c", "title": "made by hand"}
    return xr.DataTree.from_dict({"/": xr.Dataset(attrs=attributes), **groups})


def judged(claim: str, *runs: dict[str, Any], experiment: str = "modular_addition", **options: Any) -> Verdict:
    """The one verdict of a claim on runs."""
    cube = tree(*runs, experiment=experiment, **options)
    (verdict,) = judge([get_claim(claim)], Cubes(results={"hand": cube}, connectivity={}, tickets={}))
    return verdict


def judged_table(claim: str, data: xr.Dataset) -> Verdict:
    """The one verdict of a claim on a cube of lines or tickets."""
    cube = {"hand": xr.DataTree.from_dict({"/": data.assign_attrs(experiment="modular_addition", contents="c")})}
    lines = "pair" in data.dims
    cubes = Cubes(results={}, connectivity=cube if lines else {}, tickets={} if lines else cube)
    (verdict,) = judge([get_claim(claim)], cubes)
    return verdict


def halves(top: float, bottom: float) -> np.ndarray:
    """`pruned_loss` of both halves."""
    return np.array([top, bottom])[:, None, None]


def ways(**losses: float) -> np.ndarray:
    """`curve_loss` of each way of keeping half of the values, 1 if not given."""
    return np.array([losses.get(way, 1.0) for way in WAYS])[:, None, None, None]


def splits(train: Any, val: Any) -> np.ndarray:
    """A metric on both splits, each a curve (T,) or a number."""
    return np.array([np.broadcast_to(one, (T,)) for one in (train, val)])
