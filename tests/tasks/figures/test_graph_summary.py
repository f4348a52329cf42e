"""The last table of lines and of tickets: means over what differs in its seeds alone, and nothing else."""

import numpy as np
import xarray as xr

from specdyn.tasks.figures.graph_summary import lines_summary, tickets_summary

ERROR = {"long_name": "error"}


def test_pairs_are_averaged_by_kind_and_split_step() -> None:
    barriers = np.array([[0.1, 0.2], [0.3, 0.4], [0.5, np.nan], [0.7, 0.8]])
    data = xr.Dataset(
        {
            "barrier_err": (("pair", "split"), barriers),
            "err": (("pair", "split"), barriers, ERROR),
            "agreement_score": (("pair", "layer"), np.array([[0.2, 0.4], [0.4, 0.6], [1.0, 1.0], [0.0, 0.0]])),
            "agreement_null": (("layer",), np.array([0.01, 0.03])),
        },
        {
            "split": ["train", "val"],
            "kind": ("pair", ["within", "within", "within", "across"]),
            "split_step": ("pair", [10, 10, 20, 10]),
        },
    )
    title, headings, rows = lines_summary(data, "err")
    assert title == "Barriers of the error; agreement by chance 0.02"
    assert headings == ("kind", "split step or size", "pairs", "train barrier", "val barrier", "agreement")
    assert rows == [
        ("within", "10", "2", "0.2", "0.3", "0.4"),
        ("within", "20", "1", "0.5", "-", "1"),
        ("across", "10", "1", "0.7", "0.8", "0"),
    ]


def test_tickets_are_averaged_by_mask_and_density() -> None:
    last = np.array([[0.2, 0.3], [0.4, 0.5], [0.6, 0.9]])
    data = xr.Dataset(
        {
            "err": (("ticket", "step", "split"), np.stack([np.full((3, 2), 9.0), last], axis=1), ERROR),
            "agreement_dense_score": (
                ("ticket", "step", "layer"),
                np.stack([np.zeros((3, 1)), [[0.5], [0.7], [0.1]]], 1),
            ),
            "agreement_null": (("layer",), np.array([0.05])),
        },
        {
            "split": ["train", "val"],
            "mask": ("ticket", ["magnitude", "magnitude", "random"]),
            "density": ("ticket", [0.1, 0.1, 0.1]),
        },
    )
    _, headings, rows = tickets_summary(data, "err")
    assert headings == ("mask", "density", "tickets", "train error", "val error", "agreement with dense")
    assert rows == [("magnitude", "0.1", "2", "0.3", "0.4", "0.6"), ("random", "0.1", "1", "0.6", "0.9", "0.1")]
